// A dialog in which the user chooses images of a collection: one, or as many as wanted.

import * as api from "./api.js";
import { $, make } from "./dom.js";
import { errorText } from "./failures.js";
import { displayName, obstacle } from "./grid.js";
import { t } from "./i18n.js";
import { makeImage } from "./image.js";

const PAGE = 30; // images that are added at once

/** Set up the dialog. Returns a function that opens it and resolves to the chosen items; to none if the user closes it. */
export function itemPicker() {
  const dialog = $("picker");
  let collection = null;
  let single = false;
  let seed = 0;
  let cursor = null;
  let chosen = new Map(); // id → item
  let turn = 0; // counts lists: an old list does not continue a new one
  let done = () => {};

  function renderChosen() {
    $("picker-add").hidden = single;
    $("picker-add").disabled = !chosen.size;
    $("picker-add").textContent = t("addChosen", { n: chosen.size });
  }

  function makeChoice(item) {
    const name = displayName(item);
    const reason = obstacle(item);
    const card = make("li", "card plain");
    const button = make("button", "image");
    button.setAttribute("aria-label", name);
    button.title = name;
    if (!single) button.setAttribute("aria-pressed", chosen.has(item.id));
    button.append(reason ? makeImage({ name, reason }) : makeImage({ src: api.address(item.thumbnail), name, lazy: true }));
    button.addEventListener("click", () => {
      if (single) return close([item]);
      if (!chosen.delete(item.id)) chosen.set(item.id, item);
      button.setAttribute("aria-pressed", chosen.has(item.id));
      renderChosen();
    });
    card.append(button);
    return card;
  }

  async function load({ more = false } = {}) {
    const thisTurn = ++turn;
    if (!more) cursor = null;
    const label = $("picker-label").value;
    $("picker-grid").setAttribute("aria-busy", "true");
    $("picker-status").textContent = "";
    try {
      const labels = label ? [label] : [];
      const page = await api.sample(collection.name, { seed, labels, limit: PAGE, cursor });
      if (thisTurn !== turn) return;
      ({ cursor } = page);
      const cards = page.items.map(makeChoice);
      const from = more ? $("picker-grid").children.length : 0;
      if (more) $("picker-grid").append(...cards);
      else $("picker-grid").replaceChildren(...cards);
      if (more) $("picker-grid").children[from]?.querySelector("button").focus();
      if (!$("picker-grid").children.length) $("picker-status").textContent = t("empty");
    } catch (error) {
      if (thisTurn === turn) $("picker-status").textContent = errorText(error);
    }
    $("picker-grid").removeAttribute("aria-busy");
    $("picker-more").hidden = !cursor;
  }

  function close(items) {
    done(items);
    done = () => {};
    dialog.close();
  }

  $("picker-label").addEventListener("change", () => load());
  $("picker-more").addEventListener("click", () => load({ more: true }));
  $("picker-add").addEventListener("click", () => close([...chosen.values()]));
  $("picker-close").addEventListener("click", () => close([]));
  $("picker-shuffle").addEventListener("click", () => {
    seed = Math.floor(Math.random() * 2 ** 31);
    load();
  });
  dialog.addEventListener("close", () => close([])); // Escape
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) close([]);
  });

  return {
    /** Open the dialog for one image, or for several. */
    pick(from, { heading, one = false }) {
      if (collection !== from) {
        const labels = Object.keys(from.labels);
        $("picker-label").replaceChildren(new Option(t("allLabels"), ""), ...labels.map((label) => new Option(label, label)));
        $("picker-label").hidden = labels.length < 2;
        seed = Math.floor(Math.random() * 2 ** 31);
      }
      [collection, single, chosen] = [from, one, new Map()];
      $("picker-label").options[0].textContent = t("allLabels");
      $("picker-heading").textContent = heading;
      renderChosen();
      load();
      dialog.showModal();
      return new Promise((resolve) => {
        done = resolve;
      });
    },
    /** Close the dialog; nothing is chosen. */
    close() {
      if (dialog.open) close([]);
    },
  };
}
