// Puts what the server tells into the places of the page that ask for it. Without this a page shows how it was.
const places = new Map([...document.querySelectorAll("[data-live]")].map((place) => [place.dataset.live, place]));
const state = document.getElementById("connection");
let source = null;

function show(texts) {
  for (const [key, text] of Object.entries(texts)) {
    const place = places.get(key);
    if (place && place.textContent !== text) place.textContent = text;
    const row = document.querySelector(`[data-live-state="${CSS.escape(key)}"]`);
    if (row) row.dataset.state = text;
  }
}

// A browser opens six connections to a server at most, and each stream holds one: pages that nobody sees let theirs go.
function follow() {
  if (document.hidden) {
    source?.close();
    source = null;
  } else if (!source) {
    source = new EventSource("/live");
    source.onmessage = (event) => {
      show(JSON.parse(event.data));
      state.textContent = "live";
    };
    source.onerror = () => {
      state.textContent = "not connected; trying again";
    };
  }
}

document.addEventListener("visibilitychange", follow);
addEventListener("pagehide", () => {
  source?.close();
  source = null;
});
addEventListener("pageshow", follow);
follow();
