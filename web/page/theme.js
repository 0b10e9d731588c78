// Runs before the first paint: sets the colours that were chosen last, and reports the one error that modules cannot
// report themselves.
"use strict";
try {
  const theme = localStorage.getItem("tilefit-theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch {
  // Storage may be disabled.
}
if (location.protocol === "file:") {
  addEventListener("DOMContentLoaded", () => {
    const problem = document.getElementById("problem");
    problem.firstElementChild.textContent =
      "Browsers load modules from web servers only: run python3 -m http.server in this folder and open http://localhost:8000.";
    problem.hidden = false;
  });
}
