"use strict";
// The list of all claims, narrowed by words and verdicts.

function narrow(form) {
  const asked = new FormData(form);
  const words = asked.get("words").toLowerCase().split(/\s+/).filter(Boolean);
  const verdicts = asked.getAll("verdict");
  let shown = 0;
  for (const row of document.querySelectorAll("article tbody tr")) {
    const text = row.textContent.toLowerCase();
    const verdict = row.querySelector(".verdict").lastChild.textContent.trim();
    const fits =
      verdicts.includes(verdict) &&
      words.every((word) => text.includes(word)) &&
      !(asked.has("primary") && text.includes("(secondary)"));
    row.hidden = !fits;
    shown += fits;
  }
  form.querySelector("output").textContent = `${shown} claims`;
}

for (const form of document.querySelectorAll("form.filter")) {
  form.addEventListener("input", () => narrow(form));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  narrow(form);
}
