// The results: a heading, a status that is read aloud, the grid, and a button for more.

import { address } from "./api.js";
import { $, make } from "./dom.js";
import { displayName, hitCards, obstacle, sampleCards, skeletons } from "./grid.js";
import { t } from "./i18n.js";
import { makeImage } from "./image.js";

const IN_STRIP = 8; // images under the canvas of a phone
const PAGE = 100; // cards that are added at once
const LONG_REFRESH = 1000; // milliseconds until the status says that a drawing is searched for
const LOADED_FIRST = 20; // images that are loaded before a refresh shows them
const LONGEST_LOAD = 400; // milliseconds

/**
 * Set up the results. An answer is `{hits, cursor, …}` as the API gives it, with `asSketch` if it takes the user's image for a sketch; or `{hits, cursor, total}` for a sample.
 *
 * @param open called with a hit that the user opens
 * @param search called with an item that the user searches by
 * @param more called with an answer; resolves to the answer that continues it
 * @param grown called with the number of cards, after the user asked for more
 */
export function resultsView({ open, search, more, grown }) {
  let answer = null;

  function cards(from, to) {
    const hits = answer.hits.slice(from, to);
    return isSample(answer) ? sampleCards(hits, { search }) : hitCards(hits, { answer, open, search });
  }

  /** Get the hits that follow those of the answer. */
  async function extend() {
    const { hits, cursor, complete } = await more(answer);
    Object.assign(answer, { hits: [...answer.hits, ...hits], cursor, complete });
  }

  function renderCounts() {
    const [shown, known] = [$("grid").children.length, answer.total ?? answer.hits.length];
    const beyond = !isSample(answer) && !answer.complete;
    $("more-row").hidden = shown === known && !answer.cursor;
    $("shown").textContent = t(beyond ? "shownOfMore" : "shownOf", { shown, known });
    $("status").textContent = isSample(answer) ? "" : describe(answer);
  }

  async function showMore() {
    const button = $("more");
    button.setAttribute("aria-busy", "true");
    const shown = answer;
    try {
      const from = $("grid").children.length;
      if (from === answer.hits.length) await extend();
      if (shown !== answer) return; // the user searched for something else
      $("grid").append(...cards(from, from + PAGE));
      renderCounts();
      grown($("grid").children.length);
      $("grid").children[from]?.querySelector("button").focus();
    } catch (error) {
      if (shown === answer) throw error;
    } finally {
      button.removeAttribute("aria-busy");
    }
  }

  /** Forget the answer and its messages, and move the focus out of them. */
  function prepare() {
    answer = null;
    const leaves = ["grid", "alert", "more-row"].some((id) => $(id).contains(document.activeElement));
    if (leaves) $("results-heading").focus({ preventScroll: true });
    for (const id of ["alert", "empty", "more-row"]) $(id).hidden = true;
    $("grid").classList.remove("unlike");
    fillStrip();
  }

  /** Show the first hits under the canvas, where a phone has no room for the grid. Hits that stay keep their place's image, so that it does not flicker. */
  function fillStrip(hits = []) {
    const before = new Map([...$("strip").children].map((tile) => [tile.dataset.id, tile]));
    const tiles = hits.slice(0, IN_STRIP).map((hit) => before.get(hit.id) ?? makeTile(hit));
    $("strip").replaceChildren(...tiles);
  }

  function makeTile(hit) {
    const tile = make("span", "image");
    tile.dataset.id = hit.id;
    tile.append(makeImage({ src: obstacle(hit) ? null : address(hit.thumbnail), name: displayName(hit) }));
    tile.addEventListener("click", () => open(hit));
    return tile;
  }

  return {
    showMore,
    get answer() {
      return answer;
    },
    /**
     * Prepare for other results: move the focus out of those that go, and show placeholders if they take long. If they only
     * refresh those of a drawing that goes on, those stay until then.
     */
    wait({ count, heading, status, delay, refreshes }) {
      if (refreshes && answer) return setTimeout(() => ($("status").textContent = status), LONG_REFRESH);
      prepare();
      $("results-heading").textContent = heading;
      $("status").textContent = status;
      return setTimeout(() => {
        $("grid").replaceChildren(...skeletons(count));
        $("grid").setAttribute("aria-busy", "true");
      }, delay);
    },
    /** Show an answer: `count` cards or more, if it has as many. */
    async show(shown, { heading, empty, count = 0, refreshes = false }) {
      answer = shown;
      while (answer.hits.length < count && answer.cursor) await extend();
      if (shown !== answer) return;
      const next = cards(0, Math.max(count, PAGE));
      if (refreshes) {
        await loadImages(next);
        if (shown !== answer) return;
        keepImages(next);
      }
      for (const id of ["alert", "empty"]) $(id).hidden = true;
      $("results-heading").textContent = heading;
      $("grid").classList.toggle("unlike", Boolean(answer.no_match));
      fill(next);
      fillStrip(isSample(answer) ? [] : answer.hits);
      renderCounts();
      if (!answer.hits.length) this.showEmpty(empty);
    },
    clear(heading = $("results-heading").textContent) {
      answer = null;
      fill([]);
      fillStrip();
      $("results-heading").textContent = heading;
      $("status").textContent = "";
      $("more-row").hidden = true;
    },
    /** Show no hits, but a heading and a status of the classes. */
    giveWay({ heading, status }) {
      prepare();
      fill([]);
      $("results-heading").textContent = heading;
      $("status").textContent = status;
    },
    showEmpty(text) {
      $("empty").hidden = false;
      $("empty").textContent = text;
    },
    /** Show an error, and a button that does something about it. */
    showError(text, { label, act }) {
      const button = make("button", "soft", label);
      button.addEventListener("click", act);
      $("alert").replaceChildren(make("span", "", text), button);
      $("alert").hidden = false;
    },
    focusHit(id) {
      const card = [...$("grid").children].find(({ dataset }) => dataset.id === id);
      card?.querySelector("button").focus();
    },
  };
}

const isSample = (answer) => answer.total !== undefined;

function describe({ hits, complete, exact, asSketch, blank, no_match: noMatch, took_ms: took }) {
  const parts = [t(complete ? "results" : "resultsAndMore", { n: hits.length })];
  if (took !== undefined) parts[0] += ` ${t("took", { ms: Math.max(1, Math.round(took)) })}`;
  if (asSketch) parts.push(t("asSketch"));
  if (!exact) parts.push(t("inexact"));
  if (blank) parts.push(t("blankNote"));
  if (noMatch) parts.push(t("noMatchNote"));
  return parts.join(" · ");
}

const byId = () => new Map([...$("grid").children].map((card) => [card.dataset.id, card]));

/** Load the first new images of cards, for at most `LONGEST_LOAD`. */
async function loadImages(cards) {
  const before = byId();
  const images = cards.slice(0, LOADED_FIRST).filter(({ dataset }) => !before.has(dataset.id)).map((card) => card.querySelector("img"));
  const loads = images.filter(Boolean).map((img) => {
    img.loading = "eager";
    return img.decode().catch(() => {}); // the card then shows a tile
  });
  await Promise.race([Promise.all(loads), new Promise((done) => setTimeout(done, LONGEST_LOAD))]);
}

/** Move the images that the grid shows to the cards that replace it, so that they do not flicker. */
function keepImages(cards) {
  const before = byId();
  for (const card of cards) {
    const [old, next] = [before.get(card.dataset.id), card].map((one) => one?.querySelector("img"));
    if (old?.complete && next && old.src === next.src) next.replaceWith(old);
    card.classList.add("refreshed");
  }
}

function fill(cards) {
  $("grid").replaceChildren(...cards);
  $("grid").removeAttribute("aria-busy");
}
