// Buttons that copy a text: `data-copy` is the selector of the element that has it.
const SAID_MS = 2000;

for (const button of document.querySelectorAll("button[data-copy]")) button.hidden = false; // useless without scripts

document.addEventListener("click", async (event) => {
  const button = event.target instanceof Element && event.target.closest("button[data-copy]");
  if (!button) return;
  const source = document.querySelector(button.dataset.copy);
  const label = (button.dataset.label ??= button.textContent);
  try {
    await navigator.clipboard.writeText("value" in source ? source.value : source.textContent);
    button.textContent = "Copied";
  } catch {
    // no permission, or no TLS and not this machine: select it, so that the person copies it herself
    getSelection().selectAllChildren(source);
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = label), SAID_MS);
});
