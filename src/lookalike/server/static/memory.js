// Images that the user searched by, traced, or gave as examples. They stay in this browser for a day, so that reload, back and
// forward can restore them.

const KEPT = 20; // other images than examples
const EXAMPLES_KEPT = 200;
const EXAMPLE = "X"; // the first letter of the id of an example
const DAY = 24 * 60 * 60 * 1000;

const uploads = new Map(); // id → upload, also if the browser stores nothing
const previews = new Map(); // id → address for <img>; not part of an upload, since an address ends with its document
let opening;

/**
 * Remember an image, and return it with an id.
 *
 * @param upload `{image: Blob}` or `{sketch: Blob, strokes}`, with its name
 */
export function remember(upload, { example = false } = {}) {
  // The ids are in the order of time.
  const id = (example ? EXAMPLE : "") + Date.now().toString(36) + Math.random().toString(36).slice(2, 8);
  const kept = { ...upload, id };
  uploads.set(id, kept);
  inStore("readwrite", (store) => store.put(kept)).catch(() => {}); // private windows may forbid it, and the disk may be full
  prune();
  return kept;
}

/** Return an image by its id; null if this browser no longer has it. */
export async function recall(id) {
  if (!uploads.has(id)) uploads.set(id, await inStore("readonly", (store) => store.get(id)).catch(() => null));
  return uploads.get(id) ?? null;
}

export function forget(id) {
  uploads.delete(id);
  inStore("readwrite", (store) => store.delete(id)).catch(() => {});
}

/** Return the address of an image for `<img>`. */
export function previewAddress(upload) {
  if (!previews.has(upload.id)) previews.set(upload.id, URL.createObjectURL(upload.image));
  return previews.get(upload.id);
}

async function prune() {
  try {
    const ids = await inStore("readonly", (store) => store.getAllKeys());
    const yesterday = (Date.now() - DAY).toString(36);
    const isExample = (id) => id.startsWith(EXAMPLE);
    const old = [
      ...outdated(ids.filter((id) => !isExample(id)), KEPT, yesterday),
      ...outdated(ids.filter(isExample), EXAMPLES_KEPT, EXAMPLE + yesterday),
    ];
    if (old.length) await inStore("readwrite", (store) => old.map((id) => store.delete(id)).at(-1));
  } catch {
    // as above
  }
}

const outdated = (ids, kept, oldest) => ids.filter((id, i) => i < ids.length - kept || id < oldest);

async function inStore(mode, act) {
  opening ??= new Promise((resolve, reject) => {
    const request = indexedDB.open("lookalike", 2);
    request.addEventListener("upgradeneeded", () => {
      // Version 1 had strokes of another form.
      if (request.result.objectStoreNames.contains("uploads")) request.result.deleteObjectStore("uploads");
      request.result.createObjectStore("uploads", { keyPath: "id" });
    });
    request.addEventListener("success", () => resolve(request.result));
    request.addEventListener("error", () => reject(request.error));
  });
  const database = await opening;
  return new Promise((resolve, reject) => {
    const request = act(database.transaction("uploads", mode).objectStore("uploads"));
    request.addEventListener("success", () => resolve(request.result));
    request.addEventListener("error", () => reject(request.error));
  });
}
