-- Login tokens that were ended before their time; a row may go once its token has ended by itself.

CREATE TABLE ended_tokens (
    jti TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    ended_at BIGINT NOT NULL
);
CREATE INDEX ended_tokens_by_end ON ended_tokens (expires_at);

-- Attempts to log in that count: under way while failed_at is NULL, failed after. What was typed as a
-- name is never kept, for people type passwords there: pair is a keyed digest of it and the address.

CREATE TABLE login_attempts (
    id TEXT PRIMARY KEY,
    pair TEXT NOT NULL,
    address TEXT NOT NULL,
    failed_at BIGINT,
    audited BOOLEAN NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX login_attempts_by_pair ON login_attempts (pair);
CREATE INDEX login_attempts_by_address ON login_attempts (address);
CREATE INDEX login_attempts_by_end ON login_attempts (expires_at);

-- One row: who admits an attempt takes it first, so that of many at once each sees the others.
CREATE TABLE login_turn (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    number BIGINT NOT NULL
);
INSERT INTO login_turn (one, number) VALUES (1, 0);
