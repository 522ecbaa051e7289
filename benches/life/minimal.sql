-- The least SQL of a life, one statement for each step, for pgbench, on the tables of by_hand.sql. Ids grow
-- with time, as ours do.
\set i :i + 1
\set n :i * 1000 + :client_id
WITH p AS (INSERT INTO payouts (id, idempotency_key, amount, currency, token, recipient_name, customer_reference, reference, status, step) VALUES (life(:n), 'key-' || :n, 125050, 'RUB', 'tok_0123456789', 'Anna Petrova', 'customer-' || :n, 'reference-' || :n, 'accepted', 1) RETURNING id) INSERT INTO history (payout_id, step, status) SELECT id, 1, 'accepted' FROM p;
WITH p AS (UPDATE payouts SET session_id = 'ps_' || :n, status = 'starting', step = 2, updated_at = now() WHERE id = life(:n) AND step < 2 RETURNING id) INSERT INTO history (payout_id, step, status) SELECT id, 2, 'starting' FROM p;
WITH p AS (UPDATE payouts SET status = 'processing', step = 3, updated_at = now() WHERE id = life(:n) AND step < 3 RETURNING id) INSERT INTO history (payout_id, step, status) SELECT id, 3, 'processing' FROM p;
INSERT INTO inbox (body_hash, body) VALUES (sha256(('ready' || :n)::bytea), convert_to(repeat('x', 800), 'UTF8')) ON CONFLICT DO NOTHING;
WITH p AS (UPDATE payouts SET status = 'confirming', step = 4, updated_at = now() WHERE id = life(:n) AND step < 4 RETURNING id), m AS (INSERT INTO permits (payout_id, rule) SELECT id, 'amount' FROM p), i AS (UPDATE inbox SET done_at = now() WHERE body_hash = sha256(('ready' || :n)::bytea)) INSERT INTO history (payout_id, step, status) SELECT id, 4, 'confirming' FROM p;
WITH p AS (UPDATE payouts SET status = 'settling', step = 5, updated_at = now() WHERE id = life(:n) AND step < 5 RETURNING id) INSERT INTO history (payout_id, step, status) SELECT id, 5, 'settling' FROM p;
INSERT INTO inbox (body_hash, body) VALUES (sha256(('paid' || :n)::bytea), convert_to(repeat('x', 900), 'UTF8')) ON CONFLICT DO NOTHING;
WITH p AS (UPDATE payouts SET status = 'succeeded', step = 6, token = NULL, rrn = '123456789012', updated_at = now() WHERE id = life(:n) RETURNING id), m AS (INSERT INTO notifications (payout_id, payload) SELECT id, repeat('x', 200) FROM p), i AS (UPDATE inbox SET done_at = now() WHERE body_hash = sha256(('paid' || :n)::bytea)) INSERT INTO history (payout_id, step, status) SELECT id, 6, 'succeeded' FROM p;
UPDATE notifications SET delivered_at = now() WHERE payout_id = life(:n);
