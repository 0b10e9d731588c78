for (const row of document.querySelectorAll(".crops:not(.heat)")) {
  const pictures = [...row.querySelectorAll("img")];
  const original = pictures[0].src;
  for (const picture of pictures.slice(1)) {
    const own = picture.src;
    const show = (held) => {
      picture.src = held ? original : own;
      picture.parentElement.classList.toggle("original", held);
    };
    picture.addEventListener("pointerdown", () => show(true));
    for (const end of ["pointerup", "pointerleave", "pointercancel"]) picture.addEventListener(end, () => show(false));
    picture.addEventListener("contextmenu", (event) => event.preventDefault());
    picture.draggable = false;
  }
}
