-- One row: when the fleet's newest canary was written, on the store's clock; 0 before any.

CREATE TABLE canary (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    at BIGINT NOT NULL
);
INSERT INTO canary (one, at) VALUES (1, 0);
