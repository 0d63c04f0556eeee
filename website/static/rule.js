"use strict";
// The rule of nonconvex.claims and nonconvex.judging for one claim at any margin; tests/test_site.py holds the two together.

function contrast(found, margin) {
  if (found.low === null || found.high === null) return "inconclusive";
  if (found.low > 0 && found.estimate >= margin) return "supported";
  if (found.high < margin) return found.high < 0 ? "reversed" : "not supported";
  return "inconclusive";
}

function equivalence(found, margin) {
  if (found.low === null || found.high === null) return "inconclusive";
  if (-margin < found.low && found.high < margin) return "supported";
  if (found.low >= margin || found.high <= -margin) return "not supported";
  return "inconclusive";
}

// A control fails where there is none, or where the rule finds in it what the claim says.
function failedControls(claim, margin) {
  return claim.controls.filter((one) => one.n < 2 || contrast(one, margin) === "supported").map((one) => one.name);
}

function judged(claim, margin) {
  const failed = claim.failed.concat(failedControls(claim, margin));
  if (failed.length) return { word: "inconclusive", failed };
  const rule = claim.kind === "equivalence" ? equivalence : contrast;
  return { word: rule(claim, margin), failed };
}

const SYMBOLS = { supported: "●", "not supported": "■", reversed: "✕", inconclusive: "◆" };

function show(form, claim, margin) {
  const { word, failed } = judged(claim, margin);
  const badge = document.createElement("span");
  badge.className = `verdict ${word.replace(" ", "-")}`;
  badge.textContent = `${SYMBOLS[word]} ${word}`;
  const why = failed.length ? ` gates failed: ${failed.join(", ")}` : "";
  form.querySelector("output").replaceChildren(badge, why);
  for (const line of document.querySelectorAll(".strip line.margin")) {
    const strip = line.closest("svg");
    const x = Number(strip.dataset.origin) + Number(line.dataset.sign) * margin * Number(strip.dataset.scale);
    for (const end of ["x1", "x2"]) line.setAttribute(end, x);
  }
}

function listen(form) {
  const claim = JSON.parse(form.dataset.claim);
  const [number, range] = form.querySelectorAll("input");
  const reach = Math.max(...[claim.estimate, claim.low, claim.high, claim.margin].map((v) => Math.abs(v ?? 0)));
  range.max = reach * 1.5 || 1;
  range.value = claim.margin;
  const change = (from, to) => () => {
    const margin = from.valueAsNumber;
    const allowed = claim.kind === "equivalence" ? margin > 0 : margin >= 0;
    if (!allowed) return form.querySelector("output").replaceChildren("a margin is a number, and not negative");
    to.value = from === range ? Number(margin.toPrecision(3)) : margin;
    show(form, claim, to === number ? number.valueAsNumber : margin);
  };
  number.addEventListener("input", change(number, range));
  range.addEventListener("input", change(range, number));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.closest(".disagree").hidden = false;
  show(form, claim, claim.margin);
}

document.querySelectorAll("form.margin").forEach(listen);
