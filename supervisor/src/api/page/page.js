// Draws the page anew when something happens: the server draws, this only puts it in place.
"use strict";
const said = document.querySelector(".live");
let waiting = false, again = false;
// A page that was opened with user and password in its address could not ask by it.
const here = (path) => new URL(path, location.origin);

async function redraw() {
  if (waiting) { again = true; return; }
  waiting = true;
  try {
    const answer = await fetch(here(location.pathname), { cache: "no-store" });
    if (answer.ok) {
      const drawn = new DOMParser().parseFromString(await answer.text(), "text/html");
      document.querySelector("main").replaceWith(drawn.querySelector("main"));
    }
  } catch { /* The stream says when the supervisor is there again. */ }
  // Many events at once are one drawing.
  setTimeout(() => { waiting = false; if (again) { again = false; redraw(); } }, 250);
}

if (document.querySelector("main[data-live]")) {
  const events = new EventSource(here("/v1/events?kept=false"));
  events.onopen = () => { said.textContent = "live"; redraw(); };
  events.onmessage = redraw;
  events.onerror = () => { said.textContent = "not reached; trying again"; };
  setInterval(redraw, 10000); // Ages grow without events.
}
