(() => {
  const box = document.getElementById("large"), stage = box.querySelector(".stage"), words = box.querySelector(".words");
  const all = [...document.querySelectorAll(".zoom")];
  let at = 0;
  const show = (index) => {
    at = (index + all.length) % all.length;
    const copy = all[at].firstElementChild.cloneNode(true), caption = all[at].parentElement.querySelector("figcaption");
    stage.replaceChildren(copy);
    words.textContent = caption ? caption.textContent : "";
    const path = all[at].dataset.file;
    if (path) {  // the larger file, where it still lies beside the page; else what is inside the page stays
      const file = new Image();
      file.onload = () => { if (stage.firstChild === copy) copy.src = file.src; };
      file.src = path;
    }
    if (!box.open) box.showModal();
  };
  const close = () => { box.close(); all[at].focus(); };
  all.forEach((one, index) => one.addEventListener("click", () => show(index)));
  stage.addEventListener("click", close);
  box.querySelectorAll("button").forEach((one) => one.addEventListener("click", () => {
    if (one.dataset.by) show(at + Number(one.dataset.by)); else close();
  }));
  box.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by) show(at + by);
  });
  const folded = () => document.querySelectorAll("details:not([open])");
  let opened = [];
  addEventListener("beforeprint", () => { opened = [...folded()]; opened.forEach((one) => { one.open = true; }); });
  addEventListener("afterprint", () => { opened.forEach((one) => { one.open = false; }); });
})();
