// Says in words when a live list has lost its connection, and when it has it again.
const note = document.getElementById("live-state");

if (note) {
  document.addEventListener("htmx:sse:error", () => (note.textContent = "Connection lost: trying again."));
  document.addEventListener("htmx:sse:after:connection", () => (note.textContent = ""));
}
