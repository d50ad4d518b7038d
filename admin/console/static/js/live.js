// Says in words when a part of the page that updates by itself has lost its connection or its session.
const note = document.getElementById("live-state");

const AWAY = "The router does not answer: trying again.";
const statusOf = (detail) => detail?.status ?? detail?.ctx?.response?.status;

const failed = (text) => ({ detail }) => {
  const status = statusOf(detail);
  note.textContent = status >= 500 ? AWAY : text;
  if (status !== 401) return;
  const link = document.createElement("a");
  link.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
  link.textContent = "Log in again";
  note.replaceChildren("Your session has ended, and this page is not updated any more. ", link, ".");
};

if (note) {
  document.addEventListener("htmx:sse:error", failed("Connection lost: trying again."));
  for (const name of ["htmx:error", "htmx:response:error"]) document.addEventListener(name, failed("Connection lost: reload the page to update it."));
  document.addEventListener("away", () => (note.textContent = AWAY));
  document.addEventListener("htmx:sse:after:connection", () => (note.textContent = ""));
  document.addEventListener("htmx:after:swap", ({ detail }) => {
    if (!(statusOf(detail) >= 400)) note.textContent = ""; // it follows an error, too, of which nothing is swapped
  });
}
