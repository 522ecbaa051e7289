-- Pike's daily report, line by line, so that a day can be compared with our books and with the days before.
-- A report that is read again for its day takes the place of the one before.

CREATE TABLE reports (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id   text NOT NULL,
    day          date NOT NULL,
    content_hash bytea NOT NULL,
    lines        bigint NOT NULL,
    unreadable   bigint NOT NULL,
    read_at      timestamptz NOT NULL DEFAULT now(),
    -- Set when all its lines are there: before, it counts for nothing.
    complete     boolean NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX reports_of_a_day ON reports (project_id, day) WHERE complete;

CREATE TABLE report_lines (
    report_id    bigint NOT NULL REFERENCES reports (id) ON DELETE CASCADE,
    -- A large report may come as several files.
    part         integer NOT NULL,
    line         bigint NOT NULL,
    project_id   text NOT NULL,
    operation_id text NOT NULL,
    session_id   text NOT NULL,
    kind         text NOT NULL,
    tag          text,
    -- Whose session it is by our books, else whom the metadata name, whether or not we have one of that name.
    payout_id    uuid,
    amount_minor bigint NOT NULL,
    currency     text NOT NULL,
    PRIMARY KEY (report_id, part, line),
    CONSTRAINT report_lines_kind_known CHECK (kind IN ('paid', 'returned'))
);
CREATE INDEX report_lines_payout ON report_lines (payout_id) WHERE payout_id IS NOT NULL;
CREATE INDEX report_lines_session ON report_lines (project_id, session_id);
