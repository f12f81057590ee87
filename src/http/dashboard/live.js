// Puts what the server tells into the places of the page that ask for it. Without this a page shows how it was.
const places = new Map([...document.querySelectorAll("[data-live]")].map((place) => [place.dataset.live, place]));
const source = new EventSource("/live");
const state = document.getElementById("connection");

source.onmessage = (event) => {
  for (const [key, text] of Object.entries(JSON.parse(event.data))) {
    const place = places.get(key);
    if (place && place.textContent !== text) place.textContent = text;
    const row = document.querySelector(`[data-live-state="${CSS.escape(key)}"]`);
    if (row) row.dataset.state = text;
  }
  state.textContent = "live";
};
source.onerror = () => {
  state.textContent = "not connected; trying again";
};
