// What is entered chooses the option that it belongs to: `data-chooses` is the ID of its radio button.
document.addEventListener("input", ({ target }) => {
  const { chooses } = target.dataset;
  if (chooses) document.getElementById(chooses).checked = true;
});
