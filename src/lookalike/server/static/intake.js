// Files that come in: chosen, dropped anywhere on the page, or pasted.

const $ = (id) => document.getElementById(id);

/** Listen for files; `take` gets each one. The function returned opens the file chooser. */
export function intake(take) {
  const chooser = $("file");
  let into = take;
  chooser.addEventListener("change", () => {
    if (chooser.files.length) into(chooser.files[0]);
    chooser.value = ""; // so that choosing the same file again is a change
  });

  const overlay = $("overlay");
  const carriesFile = (event) => event.dataTransfer?.types.includes("Files");
  let depth = 0; // entering a child comes before leaving its parent
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
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });

  window.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    take(file);
  });

  return (other = take) => {
    into = other;
    chooser.click();
  };
}
