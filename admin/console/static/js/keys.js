// The keyboard. `?` lists the keys (layout.html); an element with `data-key` is activated by that key.
const PLACES = {
  o: "/", f: "/flows", e: "/executions", x: "/faults", i: "/incidents", j: "/jobs", q: "/requests", r: "/rejections", s: "/secrets", c: "/cluster", a: "/audit",
};
const LEADER_MS = 1500;
let leaderUntil = 0;

const isTyping = (element) =>
  element instanceof HTMLElement && (element.isContentEditable || element.matches("input:not([type=checkbox]), textarea, select"));

// The first link of each row of the tables of the page.
const rows = () =>
  [...document.querySelectorAll("main tbody tr")].map((row) => row.querySelector("a[href]")).filter(Boolean);

const move = (step) => {
  const links = rows();
  if (!links.length) return;
  const row = document.activeElement?.closest("tbody tr");
  const at = row ? links.findIndex((link) => row.contains(link)) : -1;
  const next = at < 0 ? (step > 0 ? 0 : links.length - 1) : Math.min(Math.max(at + step, 0), links.length - 1);
  links[next].focus();
  links[next].scrollIntoView({ block: "nearest" });
};

const activate = (key) => {
  const element = document.querySelector(`[data-key="${CSS.escape(key)}"]`);
  if (!element) return false;
  element.click();
  const details = element.closest("details[open]");
  details?.querySelector("form :is(input:not([type=hidden]), select, textarea, button)")?.focus();
  return true;
};

const help = () => document.getElementById("keys").showModal();

const ACTIONS = {
  "/": () => document.querySelector("[data-search], .filters input:not([type=hidden])")?.focus(),
  j: () => move(1),
  k: () => move(-1),
  n: () => document.querySelector("main a[rel=next]")?.click(),
  p: () => document.querySelector("main a[rel=prev]")?.click(),
  t: () => window.flowhookNextTheme(),
  "?": help,
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const [target] = event.composedPath(); // the editor is in a shadow tree
  if (isTyping(target)) {
    if (event.key === "Escape") target.blur();
    return;
  }
  if (document.querySelector("dialog[open]")) return;
  if (event.timeStamp < leaderUntil) {
    leaderUntil = 0;
    if (PLACES[event.key]) location.assign(PLACES[event.key]);
    return;
  }
  if (event.key === "g") {
    leaderUntil = event.timeStamp + LEADER_MS;
    return;
  }
  const action = ACTIONS[event.key];
  if (!action && !activate(event.key)) return;
  event.preventDefault();
  action?.();
});

// On a small screen the menu is one line that scrolls.
document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

for (const button of document.querySelectorAll("[data-help], [data-theme-button]")) button.hidden = false;
document.querySelector("[data-help]")?.addEventListener("click", help);
document.querySelector("[data-theme-button]")?.addEventListener("click", () => window.flowhookNextTheme());
