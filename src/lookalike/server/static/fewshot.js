// The few-shot view: compares the query with the examples of classes, and changes the classes in the address.

import * as address from "./address.js";
import * as api from "./api.js";
import { classesView } from "./classes.js";
import { canSketch } from "./controls.js";
import { $ } from "./dom.js";
import { shrink } from "./files.js";
import { distance, t } from "./i18n.js";
import { remember } from "./memory.js";
import { itemPicker } from "./picker.js";
import { isDrawing } from "./sketch.js";
import { fromJson } from "./strokes.js";
import { MOST_EXAMPLES, itemKey, parseClasses, uploadKey, usableExamples, writeClasses } from "./support.js";

const FILLED = { classes: 5, examples: 3 }; // by labels of the collection
const QUICK = 150; // milliseconds; before it, an answer needs no status that says that it is awaited
const LONG_REFRESH = 1000; // milliseconds; the same for a query that replaces another one

/**
 * Set up the view.
 *
 * @param current returns the state that the page shows
 * @param results shows heading, status and errors
 * @param query lets the user draw an example
 * @param chooseFile opens the file chooser
 * @param refuseFile, showError say what went wrong
 * @param search called with an item that the user classifies
 */
export function fewShot({ current, results, query, chooseFile, refuseFile, showError, search }) {
  const picker = itemPicker();
  const view = classesView({
    rename: (place, name) => change(place, () => ({ name }), { replace: true }),
    remove: (place) => {
      view.forget(place);
      $("add-class").focus();
      changeAll(inAddress().filter((_, i) => i !== place));
    },
    removeExample: (place, gone) => change(place, ({ keys }) => ({ keys: keys.filter((key) => key !== gone) })),
    chooseFiles: (place) =>
      chooseFile((...files) => addFiles(place, files), "image/*,application/json,.json", { multiple: true }),
    pickItems: async (place) => {
      const items = await picker.pick(current().collection, { heading: t("pickFor", { name: view.nameOf(place) }) });
      add(place, items.map(itemKey));
    },
    draw: async (place) => {
      const drawn = await query.drawExample(t("drawFor", { name: view.nameOf(place) }));
      if (drawn) add(place, [uploadKey(remember({ ...drawn, name: t("yourDrawing") }, { example: true }))]);
    },
  });

  // ---- from the user to the address

  const inAddress = () => parseClasses(address.parameters().getAll("class"));

  const changeAll = (classes, options) => address.navigate({ view: "classes", class: writeClasses(classes) }, options);

  const change = (place, act, options) =>
    changeAll(inAddress().map((one, i) => (i === place ? { ...one, ...act(one) } : one)), options);

  /** Add examples to a class, unless all classes together would have too many. */
  async function add(place, added) {
    const count = inAddress().reduce((sum, { keys }) => sum + keys.length, 0);
    if (count + added.length > MOST_EXAMPLES) {
      const hide = () => ($("alert").hidden = true);
      results.showError(t("tooManyExamples", { n: MOST_EXAMPLES }), { label: t("close"), act: hide });
    } else if (added.length) await change(place, ({ keys }) => ({ keys: [...new Set([...keys, ...added])] }));
  }

  async function addFiles(place, files) {
    const kept = await Promise.all(files.map(keepFile));
    const refused = files[kept.indexOf(null)];
    await add(place, kept.filter(Boolean).map(uploadKey));
    if (refused) refuseFile(refused);
  }

  /** Remember a file as an example; null if it cannot be read. */
  async function keepFile(file) {
    const { name } = file;
    try {
      await file.slice(0, 1).arrayBuffer();
      const draws = isDrawing(file) && canSketch(current().collection);
      const example = draws ? { sketch: file, strokes: fromJson(await file.text()) } : { image: await shrink(file) };
      return remember({ ...example, name }, { example: true });
    } catch {
      return null;
    }
  }

  async function addClass() {
    const before = inAddress();
    await changeAll([...before, { name: "", keys: [] }]);
    view.focusName(before.length);
  }

  /** Take some labels of the collection as classes, and some items of each as examples. */
  async function fill() {
    const { name, labels } = current().collection;
    const shuffled = Object.keys(labels).map((label) => ({ label, at: Math.random() })).sort((a, b) => a.at - b.at);
    const chosen = shuffled.slice(0, FILLED.classes).map(({ label }) => label);
    const seed = Math.floor(Math.random() * 2 ** 31);
    try {
      const pages = await Promise.all(chosen.map((label) => api.sample(name, { seed, labels: [label], limit: FILLED.examples })));
      changeAll(chosen.map((label, i) => ({ name: label, keys: pages[i].items.map(itemKey) })));
    } catch (error) {
      showError(error);
    }
  }

  $("add-class").addEventListener("click", addClass);
  $("fill-classes").addEventListener("click", fill);

  // ---- from the address to the page

  /** Say which example the server cannot use; returns false if the error is another one. */
  function showExampleError(error, examples) {
    const [, index] = /^support\.(\d+)$/.exec(error.problem?.errors?.[0]?.field ?? "") ?? [];
    const example = examples[index];
    if (!example) return false;
    results.showError(example.item ? t("notFound") : t("notAnImage", { name: example.upload.name }), {
      label: t("remove"),
      act: () => change(example.place, ({ keys }) => ({ keys: keys.filter((key) => key !== example.key) })),
    });
    return true;
  }

  function showAnswer({ upload }, answer) {
    view.show(answer);
    const [nearest] = answer.classes;
    const name = view.nameOf(Number(nearest.label));
    const parts = [t("mostLike", { name, distance: distance(nearest.distance, answer.metric) })];
    if (upload?.image && answer.branch === "sketch") parts.push(t("takenForSketch"));
    $("status").textContent = parts.join(" · ");
  }

  return {
    addFiles,
    /** Let the user choose an item to classify. */
    async pickQuery() {
      const [item] = await picker.pick(current().collection, { heading: t("pickQuery"), one: true });
      if (item) search(item);
    },
    closeDialogs() {
      picker.close();
      query.closeDrawing();
    },
    /**
     * Show the classes of a state, and how similar each is to the query. Returns the answer; none if there is nothing to ask.
     *
     * @param before the state that the page showed
     * @param old the answer, if it is known
     */
    async show(state, { before, old, signal }) {
      const keeps = examplesOf(state) === examplesOf(before);
      results.giveWay({ heading: t("classes"), status: keeps ? $("status").textContent : "" });
      view.render(state, { keeps });
      const examples = usableExamples(state);
      $("fill-classes").hidden = examples.length > 0 || Object.keys(state.collection.labels).length < 2;
      if (!state.hasQuery || !examples.length) {
        view.clear();
        $("classes").removeAttribute("aria-busy");
        $("status").textContent = t(examples.length ? "needQuery" : "needExamples");
        return null;
      }
      const timer = setTimeout(() => ($("status").textContent = t("searching")), keeps ? LONG_REFRESH : QUICK);
      $("classes").setAttribute("aria-busy", "true");
      try {
        const answer = old ?? { ...(await ask(state, examples, signal)), sent: examples };
        if (!signal.aborted) showAnswer(state, answer);
        return signal.aborted ? null : answer;
      } catch (error) {
        if (error.name === "AbortError" || signal.aborted) return null;
        view.clear();
        $("status").textContent = "";
        if (!showExampleError(error, examples)) showError(error);
        return null;
      } finally {
        clearTimeout(timer);
        if (!signal.aborted && !query.waits) $("classes").removeAttribute("aria-busy");
      }
    },
  };
}

function ask({ collection, item, upload, metric, by, classes }, examples, signal) {
  const source = item ? { item } : upload.sketch ? { sketch: upload.sketch } : { image: upload.image };
  const sent = examples.map((one) => ({
    label: String(one.place),
    item: one.item,
    image: one.upload?.image,
    sketch: one.upload?.sketch,
  }));
  return api.classify(collection.name, source, sent, { metric, by, k: classes.length }, signal);
}

/** Return the examples of the classes as a text; it stays the same when the user names a class. */
const examplesOf = ({ classes, collection }) =>
  classes && JSON.stringify([collection.name, classes.map(({ examples }) => examples.map(({ key }) => key))]);
