// Files from the user: chosen, dropped anywhere on the page, or pasted.

const SMALL = 300_000; // bytes; a hundred such files fit into a request
const SHRUNK_SIDE = 1024; // pixels; encoders look at fewer

const $ = (id) => document.getElementById(id);

/**
 * Listen for files and pass each to `handle`. `catchDrop` gets the element under a drop and its files first; it returns whether it
 * took them. Returns a function that opens the file chooser for a handler and types of files.
 */
export function listenForFiles(handle, catchDrop) {
  const chooser = $("file");
  let chosenHandler = handle;
  chooser.addEventListener("change", () => {
    if (chooser.files.length) chosenHandler(...chooser.files);
    chosenHandler = handle;
    chooser.value = ""; // otherwise, choosing the same file again would not fire “change”
  });

  const overlay = $("overlay");
  const carriesFile = (event) => event.dataTransfer?.types.includes("Files");
  let depth = 0; // a drag enters a child before it leaves the parent
  window.addEventListener("dragenter", (event) => {
    if (!carriesFile(event)) return;
    depth += 1;
    overlay.hidden = false;
  });
  window.addEventListener("dragleave", (event) => {
    if (!carriesFile(event)) return;
    depth = Math.max(0, depth - 1);
    overlay.hidden = depth === 0;
  });
  window.addEventListener("dragover", (event) => {
    if (carriesFile(event)) event.preventDefault();
  });
  window.addEventListener("drop", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    depth = 0;
    overlay.hidden = true;
    const { files } = event.dataTransfer;
    if (files.length && !catchDrop(event.target, [...files])) handle(files[0]);
  });

  window.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    handle(file);
  });

  return (handler = handle, accepted = "image/*", { multiple = false } = {}) => {
    chosenHandler = handler;
    chooser.accept = accepted;
    chooser.multiple = multiple;
    chooser.click();
  };
}

/** Return a smaller copy of a large image, or the file itself if it is small or the browser cannot open it. */
export async function shrink(file) {
  if (file.size <= SMALL) return file;
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return file;
  }
  const scale = Math.min(1, SHRUNK_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const paint = canvas.getContext("2d");
  paint.fillStyle = "#fff"; // JPEG has no transparency
  paint.fillRect(0, 0, canvas.width, canvas.height);
  paint.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const smaller = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.95));
  return smaller && smaller.size < file.size ? smaller : file;
}
