// Files from the user: chosen, dropped anywhere on the page, or pasted.

const $ = (id) => document.getElementById(id);

/** Listen for files and pass each to `handle`. Returns a function that opens the file chooser for a handler and types of files. */
export function listenForFiles(handle) {
  const chooser = $("file");
  let chosenHandler = handle;
  chooser.addEventListener("change", () => {
    if (chooser.files.length) chosenHandler(chooser.files[0]);
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
    if (event.dataTransfer.files.length) handle(event.dataTransfer.files[0]);
  });

  window.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    handle(file);
  });

  return (handler = handle, accepted = "image/*") => {
    chosenHandler = handler;
    chooser.accept = accepted;
    chooser.click();
  };
}
