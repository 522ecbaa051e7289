// The sandbox's page: asks the sandbox every second, shows what it says as text, never as markup.
'use strict';

const element = (id) => document.getElementById(id);
const make = (name, text, style) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (style) made.className = style;
  return made;
};
const ask = async (path, options) => {
  const answer = await fetch(path, options);
  return { ok: answer.ok, body: await answer.json() };
};
const send = (path, body) => ask(path, {
  method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body),
});
const reason = (body) => `${body.error.code}: ${body.error.description}`;
const clock = (text) => text.slice(11, 23);

// The chosen session stands in the address, so that it can be sent to somebody.
let chosen = location.hash.slice(1) || null;

const ACTIONS = [
  ['advance', 'Advance', 'what would happen next by itself happens now', {}],
  ['fail', 'Fail', 'the payout fails with provider_internal_error', {}],
  ['error', 'Put in doubt', 'the session goes into error: nobody knows', {}],
  ['resolve', 'Resolve: paid', 'it is paid, confirmed or not', { as: 'paid' }],
  ['resolve', 'Resolve: failed', 'it failed', { as: 'failed' }],
  ['return', 'Return', 'the recipient\'s bank sends it back', {}],
  ['resend', 'Resend webhook', 'the webhook that its state calls for', {}],
];

const showTotals = (report) => {
  const totals = element('totals');
  const pairs = [['sessions', report.sessions], ['confirmed', report.confirmed_sessions],
    ['paid', report.paid_sessions]];
  for (const flow of report.money) {
    const minor = (amount) => amount.toLocaleString('en');
    pairs.push([`${flow.currency} out, minor units`, minor(flow.out) + (flow.back ? ` (back ${minor(flow.back)})` : '')]);
  }
  for (const [fault, count] of Object.entries(report.faults)) pairs.push([fault, count]);
  totals.replaceChildren(...pairs.map(([name, value]) => {
    const pair = make('div');
    pair.append(make('dt', name), make('dd', value));
    return pair;
  }));
};

const showSessions = (sessions) => {
  element('none').hidden = sessions.length > 0;
  element('rows').replaceChildren(...sessions.map((session) => {
    const row = make('tr');
    row.tabIndex = 0;
    if (session.id === chosen) row.className = 'chosen';
    const amount = session.amount === null ? '' : `${session.amount.toLocaleString('en')} ${session.currency}`;
    const status = make('td', session.payout_status ? `${session.status} / ${session.payout_status}` : session.status,
      session.status);
    const id = make('td', `…${session.id.slice(-12)}`, 'id');
    id.title = session.id;
    row.append(make('td', clock(session.created_at)), id, status,
      make('td', amount, 'number'), make('td', session.card ?? ''),
      make('td', session.metadata === null ? '' : JSON.stringify(session.metadata)));
    const choose = () => { location.hash = session.id; };
    row.addEventListener('click', choose);
    row.addEventListener('keydown', (event) => { if (event.key === 'Enter') choose(); });
    return row;
  }));
};

const sentence = (event) => {
  if (event.request) {
    const { method, verdict } = event.request;
    return `call ${method}: ${typeof verdict === 'string' ? verdict : `refused, ${verdict.refused}`}`;
  }
  if (event.change) {
    const { session_status: status, payout, error } = event.change;
    return `becomes ${status}${payout ? ` / ${payout[1]}` : ''}${error ? `, ${error}` : ''}`;
  }
  if (event.webhook) {
    const { kind, attempt, reception, forged } = event.webhook;
    const said = typeof reception === 'string' ? reception : `HTTP ${reception.http}`;
    return `webhook ${kind}, attempt ${attempt}: ${said}${forged ? ' (forged)' : ''}`;
  }
  if (event.money) {
    const { direction, amount } = event.money;
    return `money ${direction}: ${amount.amount.toLocaleString('en')} ${amount.currency.toUpperCase()} (minor units)`;
  }
  if (event.stray) return `stray ${event.stray.verb} ${event.stray.path}`;
  return event.fault ? `fault ${event.fault.fault}` : JSON.stringify(event);
};

const showChosen = async () => {
  element('detail').hidden = chosen === null;
  if (chosen === null) return;
  const [page, session] = await Promise.all([
    ask(`ledger/events?session=${encodeURIComponent(chosen)}`), ask(`sessions/${encodeURIComponent(chosen)}`)]);
  if (!page.ok || !session.ok) return;
  element('title').textContent = chosen;
  element('timeline').replaceChildren(...page.body.events.map(({ at, event }) => {
    const line = make('li');
    line.append(make('time', clock(at)), sentence(event));
    return line;
  }));
  element('shown').textContent = JSON.stringify(session.body.session, null, 2);
};

const showRules = (faults) => {
  element('rules').replaceChildren(...faults.map((rule) => {
    const { id, fitted, struck, ...said } = rule;
    const line = make('li');
    const remove = make('button', 'Remove');
    remove.addEventListener('click', async () => {
      await ask(`faults/${id}`, { method: 'DELETE' });
      refresh();
    });
    line.append(make('code', JSON.stringify(said)), make('span', `${struck} of ${fitted}`), remove);
    return line;
  }));
};

const refresh = async () => {
  const filter = new URLSearchParams(new FormData(element('filter')));
  for (const [name, value] of [...filter]) if (!value) filter.delete(name);
  filter.set('limit', '50');
  try {
    const [report, sessions, faults] =
      await Promise.all([ask('summary'), ask(`sessions?${filter}`), ask('faults')]);
    showTotals(report.body);
    showSessions(sessions.body.sessions);
    showRules(faults.body.faults);
    await showChosen();
  } catch {
    // The sandbox was stopped; the next round finds out whether it is back.
  }
};

for (const [action, label, meaning, details] of ACTIONS) {
  const button = make('button', label);
  button.title = meaning;
  button.addEventListener('click', async () => {
    const { ok, body } = await send(`sessions/${encodeURIComponent(chosen)}/${action}`, details);
    element('said').textContent = ok ? '' : reason(body);
    refresh();
  });
  element('actions').append(button);
}
addEventListener('hashchange', () => {
  chosen = location.hash.slice(1) || null;
  element('said').textContent = '';
  refresh();
});
element('filter').addEventListener('input', refresh);
element('filter').addEventListener('submit', (event) => event.preventDefault());
element('add').addEventListener('submit', async (event) => {
  event.preventDefault();
  let rule;
  try {
    rule = JSON.parse(new FormData(event.target).get('rule'));
  } catch (error) {
    element('refused').textContent = error.message;
    return;
  }
  const { ok, body } = await send('faults', rule);
  element('refused').textContent = ok ? '' : reason(body);
  refresh();
});
refresh();
setInterval(() => { if (!document.hidden) refresh(); }, 1000);
