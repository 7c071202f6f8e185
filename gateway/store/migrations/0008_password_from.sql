-- The tenant whose admin gave a user her password and so knows it; NULL: she chose it herself, or the operator gave it.

ALTER TABLE users ADD COLUMN password_from TEXT REFERENCES tenants (id);
