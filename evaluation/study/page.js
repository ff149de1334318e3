// A study in three screens: start, questions, end. What is in `study`:
//   id               digest of everything below
//   seconds          how long pictures are shown, or null: no limit
//   per_participant  how many of the questions each participant gets, or null: all
//   pictures         [data URI, width, height] of each
//   questions        [layout, first, second] of each, as places in `pictures`
//   groups, checks   places in `questions`: of each pair of systems, and of the check items
//   key              names, in Base64: [question, kind, layout, first, second] of each question; opened for the CSV alone
(() => {
  'use strict';
  const study = JSON.parse(document.getElementById('study').textContent);
  const COLUMNS = ['participant', 'study', 'question', 'kind', 'layout', 'left', 'right', 'chosen', 'chosen_system',
    'milliseconds', 'order', 'timestamp'];
  const $ = id => document.getElementById(id);
  const sides = { left: $('left'), right: $('right') };
  const images = [$('layout'), sides.left.querySelector('img'), sides.right.querySelector('img')];
  let participant = '';
  let order = [];     // of { question, swapped }: swapped ones have their second picture on the left
  let answers = [];   // of { chosen, milliseconds, timestamp }, by place in `order`
  let seen = -1;      // timed: the last place whose pictures were shown, so that a reload does not show them again
  let at = 0;         // place in `order`
  let shownAt = null; // when the pictures appeared; null where a reload forgot it
  let turn = 0;       // counts what was asked, so that what comes late for an earlier question is dropped
  let timer = 0;
  let kept = true;    // whether this browser keeps answers
  let unsaved = false;

  // ---------------------------------------------------------------------------------------------------- randomness

  /** The last steps of MurmurHash3 (A. Appleby, public domain): each bit of a number changes half of the result's. */
  function mixed(number) {
    let h = Math.imul(number ^ number >>> 16, 0x85ebca6b);
    h = Math.imul(h ^ h >>> 13, 0xc2b2ae35);
    return (h ^ h >>> 16) >>> 0;
  }

  /** A function that draws whole numbers from 0 to n - 1; what it draws depends on the text alone. */
  function drawer(text) {
    let state = 0;
    for (const byte of new TextEncoder().encode(text)) state = mixed(state + 0x9e3779b9 + byte | 0);
    return n => {
      state = state + 0x9e3779b9 | 0;
      return Math.floor(mixed(state) / 2 ** 32 * n);
    };
  }

  function shuffled(list, draw) {
    const result = [...list];
    for (let i = result.length - 1; i > 0; i--) {
      const j = draw(i + 1);
      [result[i], result[j]] = [result[j], result[i]];
    }
    return result;
  }

  /** A participant's questions: as many of each pair, half of them swapped, in random order, check items all along. */
  function orderFor(name) {
    const draw = drawer(`${study.id}/${name}`);
    const sided = list => {
      const first = draw(2);
      return shuffled(list, draw).map((question, i) => ({ question, swapped: (i + first) % 2 === 1 }));
    };
    const groups = shuffled(study.groups.map(sided), draw);
    const longest = Math.max(...groups.map(group => group.length));
    const turns = [...Array(longest).keys()].flatMap(i => groups.flatMap(group => group.slice(i, i + 1)));
    const real = shuffled(turns.slice(0, study.per_participant ?? turns.length), draw);
    const checks = sided(study.checks), total = real.length + checks.length;
    const result = Array(total).fill(null);
    checks.forEach((check, i) => {  // one in each of as many stretches, for those who stop early
      const start = Math.floor(i * total / checks.length), end = Math.floor((i + 1) * total / checks.length);
      result[start + draw(end - start)] = check;
    });
    return result.map(check => check ?? real.shift());
  }

  // ------------------------------------------------------------------------------------------------------- keeping

  // Answers are kept in the browser's storage, by participant, and with the tab's history: that outlives a reload where
  // there is no storage, as in some private windows, or where it was lost.
  const CURRENT = `study/${study.id}/participant`;
  const keyOf = name => `study/${study.id}/answers/${name}`;

  function read(key) {
    try {
      return JSON.parse(localStorage.getItem(key));
    } catch (error) {
      if (!(error instanceof SyntaxError)) kept = false;
      return null;
    }
  }

  /** What a participant has answered and seen; what is damaged counts as nothing. */
  function recall(name) {
    const valid = state => Array.isArray(state?.answers) && state.answers.length <= order.length
      && state.answers.every(answer => Object.hasOwn(sides, answer?.chosen));
    const states = [read(keyOf(name)), history.state?.participant === name ? history.state : null].filter(valid);
    const { answers, seen } = states.sort((a, b) => b.answers.length - a.answers.length)[0] ?? { answers: [] };
    return { answers, seen: Number.isInteger(seen) ? seen : -1 };
  }

  function keep() {
    try {
      history.replaceState({ participant, answers, seen }, '');
    } catch {}  // Safari refuses when this happens very often
    try {
      localStorage.setItem(CURRENT, JSON.stringify(participant));
      if (participant) localStorage.setItem(keyOf(participant), JSON.stringify({ answers, seen }));
    } catch {
      kept = false;
    }
    $('unkept').hidden = kept;
  }

  addEventListener('beforeunload', event => {
    if (!kept && unsaved) event.preventDefault();
  });

  // ------------------------------------------------------------------------------------------------------- screens

  function show(screen) {
    turn++;
    clearTimeout(timer);
    for (const id of ['start', 'question', 'end']) $(id).hidden = id !== screen;
    scrollTo(0, 0);
    (screen === 'start' ? $('participant') : $(screen).querySelector('h2')).focus({ preventScroll: true });
  }

  function begin(name) {
    participant = name;
    order = orderFor(name);
    ({ answers, seen } = recall(name));
    at = answers.length;
    keep();
    if (at < order.length) {
      show('question');
      ask();
    } else {
      finish();
    }
  }

  function finish() {
    $('again').hidden = Boolean(study.seconds);
    $('saved').textContent = '';
    show('end');
  }

  function phase(name) {
    $('question').dataset.phase = name;
    const answerable = name === 'open' || name === 'memory';
    for (const button of Object.values(sides)) button.setAttribute('aria-disabled', !answerable);
    $('hint').querySelector('p').textContent = {
      ready: `They will be shown for ${time()}.`,
      memory: 'Which of the two was it?',
    }[name] ?? '';
  }

  const time = () => `${study.seconds} second${study.seconds === 1 ? '' : 's'}`;

  async function ask() {
    const mine = ++turn, { question, swapped } = order[at];
    const [layout, first, second] = study.questions[question];
    phase('loading');
    $('progress').textContent = `Question ${at + 1} of ${order.length}`;
    $('bar').max = order.length;
    $('bar').value = at;
    $('back').disabled = at === 0;
    for (const side in sides) {
      if (answers[at]) sides[side].setAttribute('aria-pressed', answers[at].chosen === side);
      else sides[side].removeAttribute('aria-pressed');
    }
    const places = swapped ? [layout, second, first] : [layout, first, second];
    const [, width, height] = study.pictures[first];
    $('pictures').style.setProperty('--ratio', width / height);
    $('pictures').style.setProperty('--width', `${2 * width}px`);
    await Promise.all(images.map((image, i) => {
      image.src = study.pictures[places[i]][0];
      return image.decode().catch(() => {});
    }));
    if (mine !== turn) return;
    shownAt = null;
    if (!study.seconds) {
      phase('open');
      shownAt = performance.now();
    } else if (seen >= at) {
      phase('memory');
    } else {
      phase('ready');
      $('show').focus({ preventScroll: true });
    }
  }

  function showForAWhile() {
    if ($('question').dataset.phase !== 'ready') return;
    const mine = turn;
    seen = at;
    keep();
    phase('viewing');
    requestAnimationFrame(() => {  // time counts from when they can be seen
      shownAt = performance.now();
      timer = setTimeout(() => mine === turn && phase('memory'), study.seconds * 1000);
    });
  }

  function answer(chosen) {
    if (sides[chosen].getAttribute('aria-disabled') !== 'false') return;
    const milliseconds = shownAt === null ? '' : Math.round(performance.now() - shownAt);
    answers[at] = { chosen, milliseconds, timestamp: new Date().toISOString() };
    at++;
    unsaved = true;
    keep();
    if (at < order.length) ask();
    else finish();
  }

  function back() {
    if (study.seconds || at === 0) return;
    at--;
    if ($('question').hidden) show('question');
    ask();
  }

  // ----------------------------------------------------------------------------------------------------------- CSV

  function cell(value) {
    let text = String(value);
    if (/^[=+\-@\t\r]/.test(text)) text = `'${text}`;  // else a spreadsheet would take it for a formula
    return /[",;\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  function csv() {
    const bytes = Uint8Array.from(atob(study.key), character => character.charCodeAt(0));
    const key = JSON.parse(new TextDecoder().decode(bytes));
    const rows = answers.map(({ chosen, milliseconds, timestamp }, i) => {
      const { question, swapped } = order[i], [id, kind, layout, first, second] = key[question];
      const [left, right] = swapped ? [second, first] : [first, second];
      return [participant, study.id, id, kind, layout, left, right, chosen, chosen === 'left' ? left : right,
        milliseconds, i + 1, timestamp];
    });
    // The mark in front lets spreadsheets read the rest as UTF-8.
    return '\ufeff' + [COLUMNS, ...rows].map(row => row.map(cell).join(',') + '\r\n').join('');
  }

  function save() {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob([csv()], { type: 'text/csv' }));
    link.download = `study-${study.id}-${participant.replace(/[^\p{L}\p{N}_-]+/gu, '_').slice(0, 40)}.csv`;
    link.click();
    unsaved = false;
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    $('saved').textContent = `Saved as ${link.download}, where this browser puts downloads.`;
  }

  // -------------------------------------------------------------------------------------------------------- events

  $('start').querySelector('form').addEventListener('submit', event => {
    event.preventDefault();
    const name = $('participant').value.trim().normalize();
    if (name) begin(name);
  });
  for (const side in sides)
    sides[side].addEventListener('click', event => event.detail < 2 && answer(side));  // a double click is one answer
  $('show').addEventListener('click', showForAWhile);
  $('back').addEventListener('click', back);
  $('again').addEventListener('click', back);
  $('next').addEventListener('click', () => {
    participant = '';
    answers = [];
    keep();
    $('participant').value = '';
    show('start');
  });
  for (const button of document.querySelectorAll('.save')) button.addEventListener('click', save);

  document.addEventListener('keydown', event => {
    if (event.ctrlKey || event.metaKey || event.altKey || $('question').hidden) return;
    const side = { ArrowLeft: 'left', 1: 'left', ArrowRight: 'right', 2: 'right' }[event.key];
    if (!side && event.key !== 'Backspace') return;
    event.preventDefault();
    if (event.repeat) return;  // a key that is held is one answer
    if (side) answer(side);
    else back();
  });

  const [, width, height] = study.pictures[study.questions[0][1]];
  document.documentElement.classList.toggle('wide', width / height > 1.5);
  document.documentElement.classList.toggle('timed', Boolean(study.seconds));
  const real = study.groups.reduce((sum, group) => sum + group.length, 0);
  const count = Math.min(study.per_participant ?? real, real) + study.checks.length;
  const keys = study.seconds ? '' : '; Backspace goes one back';
  $('how').textContent = `There ${count === 1 ? 'is 1 question' : `are ${count} questions`}; you may stop at any time.`
    + (study.seconds ? ` The pictures are shown for ${time()} each time, then you answer from memory.` : '');
  const line = document.createElement('span');
  line.className = 'keys';
  line.textContent = ` Click on a picture, or press ← or →${keys}.`;
  $('how').append(line);

  const last = read(CURRENT) ?? history.state?.participant;
  $('unkept').hidden = kept;
  if (typeof last === 'string' && last) begin(last);
  else show('start');
})();
