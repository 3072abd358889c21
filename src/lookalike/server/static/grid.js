// The grid of images: results, a sample to start from, and placeholders while they load.

import { address } from "./api.js";
import { distance, percent, t } from "./i18n.js";

/** Return the name of an item to show: its title, its label or its id. */
export function displayName(item) {
  return item.attributes.title || item.attributes.name || item.label || t("unnamed", { id: item.id.slice(0, 6) });
}

/** Show results. A click on a result opens it; its second button searches by it. */
export function showHits(grid, answer, { open, search }) {
  const cards = answer.hits.map((hit, index) => {
    const name = displayName(hit);
    const distanceText = distance(hit.distance, answer.metric);
    const card = make("li", "card");
    card.style.setProperty("--index", Math.min(index, 20));
    const image = make("button", "image");
    image.setAttribute("aria-label", t("open", { name, distance: distanceText }));
    image.append(thumbnail(hit));
    if (hit.distance === 0) image.append(make("span", "badge", t("identical")));
    image.addEventListener("click", () => open(index));
    const searchAgain = make("button", "search-again");
    searchAgain.append(icon("search"));
    searchAgain.setAttribute("aria-label", t("searchByName", { name }));
    searchAgain.title = t("searchByThis");
    searchAgain.addEventListener("click", () => search(hit));
    const bar = make("div", "bar");
    bar.style.setProperty("--similarity", hit.similarity);
    const caption = make("div", "caption");
    caption.append(make("span", "name", name), make("span", "distance", distanceText));
    if (hit.probability != null) caption.append(probability(hit));
    card.append(image, searchAgain, bar, caption);
    return card;
  });
  fill(grid, cards);
}

/** Show the probability that a hit shows the same thing, if the encoder is calibrated. */
function probability(hit) {
  const label = make("span", "probability", t("same", { probability: percent(hit.probability) }));
  label.title = t("sameMeaning");
  return label;
}

/** Show items to start from. A click on an item searches by it. */
export function showSample(grid, items, search) {
  const cards = items.map((item, index) => {
    const card = make("li", "card plain");
    card.style.setProperty("--index", Math.min(index, 20));
    const image = make("button", "image");
    image.setAttribute("aria-label", t("searchByName", { name: displayName(item) }));
    image.append(thumbnail(item));
    image.addEventListener("click", () => search(item));
    card.append(image);
    return card;
  });
  fill(grid, cards);
}

/** Show placeholders until images load. */
export function showSkeletons(grid, count, plain) {
  const cards = Array.from({ length: count }, () => {
    const card = make("li", plain ? "card plain skeleton" : "card skeleton");
    card.setAttribute("aria-hidden", "true");
    card.append(make("div", "image"), ...(plain ? [] : [make("div", "bar"), make("div", "caption")]));
    return card;
  });
  grid.replaceChildren(...cards);
  grid.setAttribute("aria-busy", "true");
}

function fill(grid, cards) {
  grid.replaceChildren(...cards);
  grid.removeAttribute("aria-busy");
}

function thumbnail(item) {
  const img = make("img");
  img.alt = ""; // the button around it has the name
  img.loading = "lazy";
  img.decoding = "async";
  img.addEventListener("error", () => img.closest(".image")?.classList.add("missing"), { once: true });
  img.src = address(item.thumbnail);
  return img;
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.classList.add("icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

export function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}
