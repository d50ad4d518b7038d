// Says in words when a part of the page that updates by itself has lost its connection or its session.
const note = document.getElementById("live-state");

const failed = (text) => ({ detail }) => {
  note.textContent = text;
  if ((detail?.status ?? detail?.ctx?.response?.status) !== 401) return;
  const link = document.createElement("a");
  link.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
  link.textContent = "Log in again";
  note.replaceChildren("Your session has ended, and this page is not updated any more. ", link, ".");
};

if (note) {
  document.addEventListener("htmx:sse:error", failed("Connection lost: trying again."));
  for (const name of ["htmx:error", "htmx:response:error"]) document.addEventListener(name, failed("Connection lost: reload the page to update it."));
  document.addEventListener("away", () => (note.textContent = "The router does not answer: trying again."));
  document.addEventListener("htmx:sse:after:connection", () => (note.textContent = ""));
  document.addEventListener("htmx:after:swap", () => (note.textContent = ""));
}
