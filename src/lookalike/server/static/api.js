// The server's API as functions. No other file builds addresses of the API.

const configured =
  new URLSearchParams(location.search).get("api") || document.querySelector('meta[name="lookalike-api"]').content;
const base = new URL(configured || ".", document.baseURI);
if (!base.pathname.endsWith("/")) base.pathname += "/";

/** The error of a request that the server refused (with problem details), or that did not reach it (status 0). */
export class ApiError extends Error {
  constructor(problem) {
    super(problem.detail ?? problem.title);
    this.problem = problem;
  }

  get unreachable() {
    return this.problem.status === 0;
  }
}

/** Turn an address from the API into one that the browser can load. */
export const address = (path) => new URL(path, base).href;

export const documentation = new URL("docs", base).href;

const collectionPath = (collection) => `api/collections/${encodeURIComponent(collection)}`;

export const collections = async () => (await call("api/collections")).collections;

export const item = (collection, id) => call(`${collectionPath(collection)}/items/${encodeURIComponent(id)}`);

/** List items in a random order, page by page. */
export function sample(collection, { seed, labels, limit, cursor }, signal) {
  const query = new URLSearchParams({ shuffle: seed, limit });
  if (cursor) query.append("cursor", cursor);
  for (const label of labels) query.append("label", label);
  return call(`${collectionPath(collection)}/items?${query}`, { signal });
}

/**
 * Search by `{item}`, `{text}`, `{image: Blob}` or `{sketch: Blob}`. The options are `k` or `within`, `metric` and `labels`, and the
 * `cursor` of the previous answer.
 */
export function search(collection, source, { labels, cursor, ...options }, signal) {
  const fields = { ...options, ...source };
  if (cursor) fields.cursor = cursor;
  const path = `${collectionPath(collection)}/search`;
  if (source.text) {
    const body = JSON.stringify({ ...fields, filter: labels.length ? { labels } : {} });
    return call(path, { method: "POST", headers: { "Content-Type": "application/json" }, body, signal });
  }
  const form = new FormData();
  if (labels.length) fields.filter = JSON.stringify({ labels });
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  return call(path, { method: "POST", body: form, signal });
}

/**
 * Rank the classes of examples by their similarity to `{item}`, `{image: Blob}` or `{sketch: Blob}`.
 *
 * @param examples `{label, item}`, or `{label, image: Blob}` or `{label, sketch: Blob}`
 */
export function classify(collection, source, examples, options, signal) {
  const form = new FormData();
  const support = examples.map(({ label, item, image, sketch }, i) => {
    if (item) return { label, item };
    form.append(`example ${i}`, image ?? sketch);
    return { label, [image ? "image" : "sketch"]: `example ${i}` };
  });
  for (const [name, value] of Object.entries({ ...options, ...source })) form.append(name, value);
  form.append("support", JSON.stringify(support));
  return call(`${collectionPath(collection)}/classify`, { method: "POST", body: form, signal });
}

async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(new URL(path, base), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError({ status: 0, title: error.message });
  }
  let body;
  try {
    body = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    body = { title: response.statusText || String(response.status) }; // not JSON: a proxy may have answered
    if (response.ok) throw new ApiError({ ...body, status: 0 });
  }
  if (!response.ok) throw new ApiError({ ...body, status: response.status });
  return body;
}
