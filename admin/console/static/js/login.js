// Logs in by the link that `flowhook up` prints, /login#CODE. The code leaves the address bar before it is posted.
const code = location.hash.slice(1);
if (code) {
  history.replaceState(null, "", location.pathname + location.search);
  const form = document.getElementById("by-link");
  form.elements.code.value = code;
  form.submit();
}
