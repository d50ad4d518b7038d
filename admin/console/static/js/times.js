// Keeps relative times right, and says the exact ones on hover: in UTC and in the time zone of the browser.
const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
const EVERY_MS = 5000;

const relative = (moment, now) => {
  const seconds = Math.trunc((now - moment) / 1000);
  for (const [unit, name] of UNITS) {
    if (Math.abs(seconds) >= unit) {
      const count = Math.trunc(Math.abs(seconds) / unit);
      return seconds > 0 ? `${count} ${name} ago` : `in ${count} ${name}`;
    }
  }
  return "now";
};

const refresh = () => {
  const now = Date.now();
  for (const each of document.querySelectorAll("time[datetime]")) {
    const text = relative(Date.parse(each.dateTime), now);
    if (each.textContent !== text) each.textContent = text;
  }
};

const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

document.addEventListener("pointerover", (event) => {
  const time = event.target instanceof Element && event.target.closest("time[title]");
  if (time && !time.dataset.exact) {
    time.dataset.exact = time.title;
    time.title = `${time.title}\n${local.format(Date.parse(time.dateTime))}`;
  }
});

setInterval(() => document.hidden || refresh(), EVERY_MS);
document.addEventListener("visibilitychange", () => document.hidden || refresh());
