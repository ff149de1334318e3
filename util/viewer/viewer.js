// Flips through the pictures of a page at full size, in one place, from the keyboard. Without scripts the pictures are
// plain links to their files.
(() => {
  const rows = [...document.querySelectorAll('section')].map(section => ({
    title: section.querySelector('h2').textContent,
    pictures: [...section.querySelectorAll('figure')].map(figure => ({
      link: figure.querySelector('a').getAttribute('href'),
      caption: figure.querySelector('figcaption').textContent,
      flat: figure.querySelector('img').className === 'flat',
    })),
    section,
  }));
  const page = rel => document.querySelector(`nav a[rel=${rel}]`);
  let row = 0, column = 0, box = null;

  function show(newRow, newColumn) {
    if (newRow < 0 || newRow >= rows.length) {
      const other = page(newRow < 0 ? 'prev' : 'next');
      if (other) location.href = `${other.getAttribute('href')}#${newRow < 0 ? 'last' : 'first'}-${newColumn}`;
      return;
    }
    row = newRow;
    const pictures = rows[row].pictures;
    column = Math.min(newColumn, pictures.length - 1);
    if (!box) {
      box = document.createElement('div');
      box.id = 'box';
      box.append(document.createElement('img'), document.createElement('p'));
      box.addEventListener('click', close);
      document.body.append(box);
    }
    const picture = pictures[column], [image, text] = box.children;
    image.src = picture.link;
    image.alt = picture.caption;
    image.className = picture.flat ? 'flat' : '';
    text.textContent = `${rows[row].title} · ${picture.caption} (${column + 1} of ${pictures.length})`
      + ' · Space, ↑ ↓, 1 – 9: other pictures · ← →: other rows · Esc: back';
    box.hidden = false;
    document.activeElement?.blur();  // else Enter and Space would follow the link that was clicked
    for (const other of [pictures[column + 1], pictures[column - 1], rows[row + 1]?.pictures[column]])
      if (other) new Image().src = other.link;  // so that flipping does not flicker
  }

  function inView() {
    const found = rows.findIndex(({ section }) => section.getBoundingClientRect().bottom > innerHeight / 4);
    return found < 0 ? rows.length - 1 : found;
  }

  function close() {
    box.hidden = true;
    rows[row].section.scrollIntoView({ block: 'center' });
  }

  rows.forEach(({ section }, i) => section.querySelectorAll('figure a').forEach((link, k) =>
    link.addEventListener('click', event => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      show(i, k);
    })));

  document.addEventListener('keydown', event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const open = box && !box.hidden, key = event.key;
    if (!open) {
      if (key === 'Enter' && rows.length && event.target === document.body) show(inView(), 0);
      else if (key === 'ArrowLeft' && page('prev')) page('prev').click();
      else if (key === 'ArrowRight' && page('next')) page('next').click();
      return;
    }
    const pictures = rows[row].pictures.length;
    if (key === 'Escape') close();
    else if (key === 'ArrowLeft') show(row - 1, column);
    else if (key === 'ArrowRight') show(row + 1, column);
    else if (key === ' ' || key === 'ArrowDown') show(row, (column + 1) % pictures);
    else if (key === 'ArrowUp') show(row, (column + pictures - 1) % pictures);
    else if (key >= '1' && key <= '9' && key <= pictures) show(row, key - 1);
    else return;
    event.preventDefault();
  });

  const asked = location.hash.match(/^#(first|last)-(\d+)$/);
  if (asked) history.replaceState(null, '', location.href.split('#')[0]);  // else a reload would open it again
  if (asked && rows.length) show(asked[1] === 'first' ? 0 : rows.length - 1, +asked[2]);
})();
