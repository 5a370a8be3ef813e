  // Everything from a file enters the page as text, never as markup.
  const put = (node, attributes, children) => {
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined) node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null));
    return node;
  };
  const html = (tag, attributes = {}, ...children) => put(document.createElement(tag), attributes, children);
  const svg = (tag, attributes = {}, ...children) =>
    put(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

  const known = (value) => typeof value === "number" && Number.isFinite(value);
  const number = (value) => (known(value) ? String(Number(value.toPrecision(4))) : "?");
  const percent = (value) => (known(value) ? `${Number((value * 100).toPrecision(3))} %` : "?");
  const plural = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;
  const scaled = (value, units) => {
    let unit = 0;
    for (; value >= 999.5 && unit + 1 < units.length; unit++) value /= 1000;
    return `${unit === 0 ? value : value.toPrecision(3)} ${units[unit]}`.trim();
  };
  const bytes = (value) => scaled(value, ["B", "kB", "MB", "GB", "TB"]);
  const count = (value) => scaled(value, ["", "k", "M", "B", "T"]);

  /** A path that may be broken after its dots and slashes. */
  const broken = (path) => path.split(/(?<=[./])/).flatMap((part, i) => (i ? [html("wbr"), part] : [part]));

  /** A finding's severity, which is also a class. */
  const severity = (f) => (["error", "warning", "note"].includes(f.severity) ? f.severity : "note");

  const facts = (pairs) => html("dl", {}, ...pairs.filter(([, value]) => value !== null && value !== undefined && value !== "").flatMap(
    ([name, value]) => [html("dt", {}, name), html("dd", {}, html("bdi", {}, String(value)))]));

  /** What is told of the thing that the pointer or the focus is on. */
  const card = document.getElementById("card");
  const hide = () => { card.hidden = true; };
  /** Puts the card beside a box, within the window. */
  const beside = (box) => {
    const [width, height] = [card.offsetWidth, card.offsetHeight];
    const left = box.right + 12 + width <= innerWidth ? box.right + 12 : box.left - 12 - width;
    card.style.left = `${Math.max(8, left)}px`;
    card.style.top = `${Math.max(8, Math.min(box.top - 20, innerHeight - height - 8))}px`;
  };
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

  const section = (title, ...content) => html("section", {}, html("h2", {}, title), ...content);

  /** A table whose headings sort it, and its rows: `{ item, row }`. A column has a name and the value `of` an item, and
   * may `show` numbers or `draw` the item otherwise; `text` begins on the left. */
  const sortable = (label, columns, items) => {
    const missing = (value) => value === null || value === undefined;
    const content = (c, item) => {
      const value = c.of(item);
      if (c.draw) return c.draw(item);
      if (missing(value)) return "";
      return c.text ? html("bdi", {}, value) : (c.show ?? number)(value);
    };
    const cell = (c, item, i) => html(i ? "td" : "th", { class: c.text ? "text" : null, scope: i ? null : "row" }, content(c, item));
    const rows = items.map((item) => ({ item, row: html("tr", {}, ...columns.map((c, i) => cell(c, item, i))) }));
    const body = html("tbody", {}, ...rows.map(({ row }) => row));
    const compare = (x, y) => (typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y);
    const heads = columns.map((c) => {
      const button = html("button", { type: "button" }, c.name);
      const head = html("th", { scope: "col", class: c.text ? "text" : null, "aria-sort": "none" }, button);
      button.addEventListener("click", () => {
        // Numbers are of interest from the top; what is not known stays last.
        const words = items.some((item) => typeof c.of(item) === "string");
        const [first, second] = words ? ["ascending", "descending"] : ["descending", "ascending"];
        const order = head.getAttribute("aria-sort") === first ? second : first;
        const sign = order === "ascending" ? 1 : -1;
        rows.sort((a, b) => {
          const [x, y] = [c.of(a.item), c.of(b.item)];
          return missing(x) || missing(y) ? missing(x) - missing(y) : sign * compare(x, y);
        });
        heads.forEach((other) => other.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", order);
        body.replaceChildren(...rows.map(({ row }) => row));
      });
      return head;
    });
    const table = html("div", { class: "panel table scroll", tabindex: 0, role: "region", "aria-label": label },
      html("table", {}, html("thead", {}, html("tr", {}, ...heads)), body));
    return { table, rows };
  };

  /** A field that hides the rows whose text does not have what is typed. */
  const filter = (label, id, rows, text) => {
    const input = html("input", { type: "search", id, placeholder: "part of a name" });
    input.addEventListener("input", () => rows.forEach(({ item, row }) => { row.hidden = !text(item).includes(input.value.trim()); }));
    return html("div", { class: "filter" }, html("label", { for: id }, label), input);
  };

