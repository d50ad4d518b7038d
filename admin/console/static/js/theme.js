// Light or dark: what the person chose, else what the system says. Runs before the first paint, so it is no module.
(() => {
  const order = ["", "light", "dark"];
  const root = document.documentElement;

  const show = (theme) => {
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
  };

  const stored = () => {
    try {
      return localStorage.getItem("theme") || "";
    } catch {
      return ""; // the browser stores nothing
    }
  };

  window.flowhookNextTheme = () => {
    const theme = order[(order.indexOf(root.dataset.theme || "") + 1) % order.length];
    show(theme);
    try {
      localStorage.setItem("theme", theme);
    } catch {
      // it lasts for this page
    }
    return theme || "as the system";
  };

  show(stored());
})();
