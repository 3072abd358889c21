// The grid of images: hits, a sample to start from, and placeholders while they load.

import { address } from "./api.js";
import { icon, make, makeName } from "./dom.js";
import { distance, t } from "./i18n.js";
import { makeImage } from "./image.js";

const KEPT_NAME = /^[0-9a-f]{64}\./; // the server's own name for an upload
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g; // also those that turn the direction of text

/** Return the name of an item to show: that of its file, or else its title or its id. */
export function displayName({ name, attributes, id }) {
  if (name && !KEPT_NAME.test(name)) return name.replace(CONTROL, "\ufffd");
  return attributes.title || t("unnamed", { id: id.slice(0, 6) });
}

/** Return why the server cannot show an item's image; null if it can. */
export function obstacle({ missing }) {
  if (missing === null) return t("outside"); // of the folders that the server may show
  return missing ? t("missing") : null;
}

/** Make the cards of hits. A click on a hit opens it; its second button searches by it. */
export function hitCards(hits, { answer, open, search }) {
  return hits.map((hit, index) => {
    const name = displayName(hit);
    const gap = distance(hit.distance, answer.metric);
    const card = makeCard(index);
    card.dataset.id = hit.id;
    const image = imageButton(hit, t("open", { name, distance: gap }));
    image.addEventListener("click", () => open(hit));
    const searchAgain = make("button", "search-again");
    searchAgain.append(icon("search"));
    searchAgain.setAttribute("aria-label", t("searchByName", { name }));
    searchAgain.title = t("searchByThis");
    searchAgain.addEventListener("click", () => search(hit));
    card.append(image, searchAgain);
    if (hit.distance === 0) card.append(make("span", "badge", t("identical")));
    if (hit.closeness != null) card.append(bar(hit.closeness));
    const facts = make("div", "facts");
    facts.append(makeName("span", "label", hit.attributes.title || hit.label || ""), measure("distance", gap, t("distance")));
    const caption = make("div", "caption");
    caption.append(makeName("span", "name", name), facts);
    card.append(caption);
    return card;
  });
}

/** Make the cards of items to start from. A click on an item searches by it. */
export function sampleCards(items, { search }) {
  return items.map((item, index) => {
    const name = displayName(item);
    const card = makeCard(index);
    card.classList.add("plain");
    card.dataset.id = item.id;
    const image = imageButton(item, t("searchByName", { name }));
    image.addEventListener("click", () => search(item));
    const caption = make("div", "caption");
    caption.append(makeName("span", "name", name));
    card.append(image, caption);
    return card;
  });
}

/** Make placeholders until images load. */
export function skeletons(count) {
  return Array.from({ length: count }, () => {
    const card = make("li", "card skeleton");
    card.setAttribute("aria-hidden", "true");
    card.append(make("div", "image"), make("div", "caption"));
    return card;
  });
}

function makeCard(index) {
  const card = make("li", "card");
  card.style.setProperty("--index", index % 20);
  return card;
}

function imageButton(item, label) {
  const button = make("button", "image");
  const name = displayName(item);
  const reason = obstacle(item);
  const shown = reason ? makeImage({ name, reason }) : makeImage({ src: address(item.thumbnail), name, lazy: true });
  button.append(make("span", "visually-hidden", label), shown);
  return button;
}

function bar(closeness) {
  const element = make("div", "bar");
  element.style.setProperty("--closeness", closeness);
  return element;
}

function measure(className, text, title) {
  const element = make("span", className, text);
  element.title = title;
  return element;
}
