// Before the first paint: the colours that were chosen last. Also the one fault that modules cannot report.
"use strict";
try {
  const theme = localStorage.getItem("tilefit-theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch {
  // Storage may be switched off.
}
if (location.protocol === "file:") {
  addEventListener("DOMContentLoaded", () => {
    const problem = document.getElementById("problem");
    problem.firstElementChild.textContent =
      "Browsers load modules from web servers only: run python3 -m http.server in this folder and open http://localhost:8000.";
    problem.hidden = false;
  });
}
