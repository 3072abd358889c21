// The classes that a query is compared with, and their examples: the most similar class first, and its nearest example first.

import * as api from "./api.js";
import { canSketch } from "./controls.js";
import { $, icon, make } from "./dom.js";
import { displayName, obstacle } from "./grid.js";
import { distance, number, t } from "./i18n.js";
import { makeImage } from "./image.js";
import { previewAddress } from "./memory.js";
import { paintDrawing } from "./sketch.js";

const PREVIEW = 168; // side of a drawing, in pixels

/**
 * Set up the classes. Each function is called with the place of a class in the address.
 *
 * @param rename called with a place and the name that the user gave
 * @param remove called with a place
 * @param removeExample called with a place and the key of an example
 * @param chooseFiles, pickItems, draw called with a place to which the user adds examples
 */
export function classesView({ rename, remove, removeExample, chooseFiles, pickItems, draw }) {
  let state = null;
  let answer = null; // with `sent`, the examples in the order of the request
  let order = []; // places of the classes, as the page shows them
  const cards = []; // by place
  let frames = new Map(); // place and key of an example → its image, which stays while cards change
  const items = new Map(); // collection and id → a promise of the item
  const names = new Map(); // collection and id → the name of the item

  const mark = (card) => {
    for (const { element } of cards) element.classList.toggle("over", element === card);
  };
  $("classes").addEventListener("dragover", (event) => mark(event.target.closest(".class")));
  for (const event of ["dragleave", "drop"]) $("classes").addEventListener(event, () => mark(null));

  const nameOf = (place) => state.classes[place].name || t("classNumber", { n: place + 1 });

  function render() {
    while (cards.length > state.classes.length) cards.pop().element.remove();
    while (cards.length < state.classes.length) cards.push(makeCard(cards.length));
    const ranks = new Map(answer?.classes.map((found) => [Number(found.label), found]));
    const before = frames;
    frames = new Map();
    cards.forEach((card, place) => update(card, place, ranks.get(place), before));
    arrange(order.map((place) => cards[place].element));
  }

  function makeCard(place) {
    const element = make("li", "class");
    element.dataset.place = place;
    const name = make("input", "class-name");
    name.type = "text";
    name.maxLength = 80;
    name.dir = "auto";
    name.autocomplete = "off";
    name.addEventListener("change", () => rename(place, name.value.trim()));
    const facts = make("p", "class-facts");
    const bar = make("div", "bar");
    const gone = make("button", "soft icon-only remove-class");
    gone.append(icon("close"));
    gone.addEventListener("click", () => remove(place));
    const examples = make("ul", "examples");
    const adds = [
      ["upload", "addFiles", chooseFiles],
      ["grid", "addItems", pickItems],
      ["pen", "addDrawing", draw],
    ].map(([symbol, text, act]) => {
      const button = make("button", "add-example");
      button.append(icon(symbol), make("span"));
      button.dataset.text = text;
      button.addEventListener("click", () => act(place));
      return button;
    });
    const adding = make("div", "add-examples");
    adding.setAttribute("role", "group");
    adding.append(...adds);
    const about = make("div", "class-about");
    about.append(name, facts, bar);
    const content = make("div", "class-examples");
    content.append(examples, adding);
    element.append(about, content, gone);
    return { element, name, facts, bar, examples, adding, adds, gone };
  }

  function update(card, place, rank, before) {
    const called = nameOf(place);
    if (document.activeElement !== card.name) card.name.value = state.classes[place].name;
    card.name.placeholder = t("classNumber", { n: place + 1 });
    card.name.setAttribute("aria-label", t("className", { n: place + 1 }));
    card.gone.setAttribute("aria-label", t("removeClass", { name: called }));
    card.gone.title = t("removeClass", { name: called });
    card.adding.setAttribute("aria-label", t("addTo", { name: called }));
    for (const button of card.adds) button.lastChild.textContent = t(button.dataset.text);
    card.adds[2].hidden = !canSketch(state.collection);
    const nearest = Boolean(rank) && rank === answer.classes[0];
    card.element.classList.toggle("nearest", nearest);
    if (nearest) card.element.setAttribute("aria-current", "true");
    else card.element.removeAttribute("aria-current");
    card.bar.hidden = !rank;
    card.facts.textContent = rank
      ? t("classMeasures", { distance: distance(rank.distance, answer.metric), similarity: number(rank.similarity) })
      : t("examples", { n: state.classes[place].examples.length });
    if (rank) card.bar.style.setProperty("--closeness", rank.similarity);
    card.examples.setAttribute("aria-label", t("examplesOf", { name: called }));
    renderExamples(card, place, before);
  }

  function renderExamples(card, place, before) {
    const { examples } = state.classes[place];
    const found = new Map();
    answer?.examples.forEach((one, rank) => {
      const sent = answer.sent[one.index];
      if (sent.place === place) found.set(sent.key, { ...one, rank });
    });
    const sorted = [...examples].sort((a, b) => (found.get(a.key)?.rank ?? 1e9) - (found.get(b.key)?.rank ?? 1e9));
    const focused = card.examples.contains(document.activeElement) ? document.activeElement.closest("li") : null;
    const index = focused ? [...card.examples.children].indexOf(focused) : -1;
    const tiles = sorted.map((example) => makeTile(example, place, found.get(example.key), before));
    card.examples.replaceChildren(...tiles);
    card.examples.hidden = !tiles.length;
    if (!focused) return;
    const same = tiles.find(({ dataset }) => dataset.key === focused.dataset.key) ?? tiles[Math.min(index, tiles.length - 1)];
    (same?.querySelector("button") ?? card.adds[0]).focus();
  }

  function makeTile(example, place, found, before) {
    const tile = make("li", "example");
    tile.dataset.key = example.key;
    const key = `${state.collection.name}/${place}/${example.key}`;
    frames.set(key, before.get(key) ?? frame(example));
    const gone = make("button", "remove-example");
    gone.append(icon("close"));
    gone.setAttribute("aria-label", t("removeExample", { name: exampleName(example), of: nameOf(place) }));
    gone.title = t("remove");
    gone.addEventListener("click", () => removeExample(place, example.key));
    const image = make("div", "image");
    image.append(frames.get(key));
    if (found?.branch === "sketch") {
      const mark = make("span", "drawn");
      mark.append(icon("pen"), make("span", "visually-hidden", t("takenForSketch")));
      mark.title = t("takenForSketch");
      image.append(mark);
    }
    tile.append(image, gone, make("span", "distance", found ? distance(found.distance, answer.metric) : ""));
    return tile;
  }

  const itemKey = (item) => JSON.stringify([state.collection.name, item]);

  function exampleName({ item, upload }) {
    if (item) return names.get(itemKey(item)) ?? t("unnamed", { id: item.slice(0, 6) });
    return upload?.name ?? t("yourImage");
  }

  /** Make the image of an example; that of an item follows when the server has described it. */
  function frame(example) {
    const holder = make("div", "example-image");
    if (example.item) showItem(holder, example);
    else holder.append(uploadFrame(example));
    return holder;
  }

  function uploadFrame(example) {
    const { upload } = example;
    if (!upload) return makeImage({ name: t("yourImage"), reason: t("lostExample") });
    if (upload.image) return makeImage({ src: previewAddress(upload), name: upload.name, alt: upload.name });
    if (!canSketch(state.collection)) return makeImage({ name: upload.name, reason: t("noSketches") });
    const canvas = make("canvas");
    canvas.width = canvas.height = PREVIEW;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", upload.name);
    paintDrawing(canvas, upload.strokes);
    return canvas;
  }

  async function showItem(holder, example) {
    const key = itemKey(example.item);
    if (!items.has(key)) items.set(key, api.item(state.collection.name, example.item));
    try {
      const item = await items.get(key);
      const name = displayName(item);
      const reason = obstacle(item);
      names.set(key, name);
      holder.replaceChildren(makeImage(reason ? { name, alt: name, reason } : { src: api.address(item.thumbnail), name, alt: name }));
    } catch {
      items.delete(key);
      holder.replaceChildren(makeImage({ name: example.item, reason: t("notFound") }));
    }
  }

  return {
    /** Show classes, with the answer for the last query until the next one is there. `keeps`: they are the same classes. */
    render(next, { keeps }) {
      state = next;
      if (!keeps) answer = null;
      const known = order.filter((place) => place < state.classes.length);
      order = [...known, ...state.classes.map((_, place) => place).filter((place) => !known.includes(place))];
      render();
    },
    /** Show an answer, the most similar class first. */
    show(shown) {
      answer = shown;
      const ranked = answer.classes.map(({ label }) => Number(label));
      order = [...ranked, ...state.classes.map((_, place) => place).filter((place) => !ranked.includes(place))];
      render();
    },
    /** Forget the answer, since the query is gone. */
    clear() {
      answer = null;
      render();
    },
    /** The class at a place goes: the others keep their order. */
    forget(place) {
      order = order.filter((other) => other !== place).map((other) => (other > place ? other - 1 : other));
    },
    /** Put the focus on the name of the class at a place. */
    focusName: (place) => cards[place]?.name.focus(),
    nameOf,
  };
}

/** Put cards into an order, without moving the one that has the focus: it would lose it. */
function arrange(elements) {
  const list = $("classes");
  const fixed = elements.find((element) => element.contains(document.activeElement) && element.parentNode === list);
  let before = Boolean(fixed);
  for (const element of elements) {
    if (element === fixed) before = false;
    else if (before) fixed.before(element);
    else list.append(element);
  }
}
