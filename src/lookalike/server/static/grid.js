// The grid of pictures: results, the sample to start from, and skeletons meanwhile.

import { address } from "./api.js";
import { distance, percent, t } from "./i18n.js";

/** What to call an item: its title, its label, or else its id. */
export function nameOf(item) {
  return item.attributes.title || item.attributes.name || item.label || t("unnamed", { id: item.id.slice(0, 6) });
}

/** Results: a click opens, a second button searches again. */
export function showHits(grid, answer, { open, again }) {
  const cards = answer.hits.map((hit, place) => {
    const name = nameOf(hit);
    const far = distance(hit.distance, answer.metric);
    const card = make("li", "card");
    card.style.setProperty("--place", Math.min(place, 20));
    const picture = make("button", "picture");
    picture.setAttribute("aria-label", t("open", { name, distance: far }));
    picture.append(image(hit));
    if (hit.distance === 0) picture.append(make("span", "badge", t("identical")));
    picture.addEventListener("click", () => open(place));
    const retry = make("button", "again");
    retry.append(icon("search"));
    retry.setAttribute("aria-label", t("againFrom", { name }));
    retry.title = t("again");
    retry.addEventListener("click", () => again(hit));
    const bar = make("div", "bar");
    bar.style.setProperty("--similarity", hit.similarity);
    const caption = make("div", "caption");
    caption.append(make("span", "name", name), make("span", "far", far));
    if (hit.probability != null) caption.append(same(hit));
    card.append(picture, retry, bar, caption);
    return card;
  });
  fill(grid, cards);
}

/** How likely a hit is the same, where the encoder was calibrated. */
function same(hit) {
  const odds = make("span", "same", t("same", { probability: percent(hit.probability) }));
  odds.title = t("sameHow");
  return odds;
}

/** Items to start from: a click searches. */
export function showSample(grid, items, search) {
  const cards = items.map((item, place) => {
    const card = make("li", "card plain");
    card.style.setProperty("--place", Math.min(place, 20));
    const picture = make("button", "picture");
    picture.setAttribute("aria-label", t("againFrom", { name: nameOf(item) }));
    picture.append(image(item));
    picture.addEventListener("click", () => search(item));
    card.append(picture);
    return card;
  });
  fill(grid, cards);
}

/** Where pictures will be. */
export function showSkeletons(grid, count, plain) {
  const cards = Array.from({ length: count }, () => {
    const card = make("li", plain ? "card plain skeleton" : "card skeleton");
    card.setAttribute("aria-hidden", "true");
    card.append(make("div", "picture"), ...(plain ? [] : [make("div", "bar"), make("div", "caption")]));
    return card;
  });
  grid.replaceChildren(...cards);
  grid.setAttribute("aria-busy", "true");
}

function fill(grid, cards) {
  grid.replaceChildren(...cards);
  grid.removeAttribute("aria-busy");
}

function image(item) {
  const img = make("img");
  img.alt = ""; // the button around it says what it is
  img.loading = "lazy";
  img.decoding = "async";
  img.addEventListener("error", () => img.closest(".picture")?.classList.add("missing"), { once: true });
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
