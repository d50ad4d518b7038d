// What is entered chooses the option that it belongs to: `data-chooses` is the ID of its radio button or `<option>`.
document.addEventListener("input", ({ target }) => {
  const option = document.getElementById(target.dataset.chooses);
  if (option) option[option.type === "radio" ? "checked" : "selected"] = true;
});
