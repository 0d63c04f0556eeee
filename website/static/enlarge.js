"use strict";
// A figure opens in a dialog at full width: by mouse, touch, Enter or the space bar; Escape or another click closes it.

function enlarge(image) {
  const dialog = document.createElement("dialog");
  const copy = image.cloneNode();
  const button = document.createElement("button");
  dialog.className = "enlarged";
  dialog.setAttribute("aria-label", image.alt);
  button.textContent = "Close";
  for (const name of ["role", "tabindex", "width", "height", "style"]) copy.removeAttribute(name);
  dialog.append(copy, button);
  dialog.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    dialog.remove();
    image.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
}

for (const image of document.querySelectorAll("article img")) {
  image.tabIndex = 0;
  image.setAttribute("role", "button");
  image.addEventListener("click", () => enlarge(image));
  image.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    enlarge(image);
  });
}
