-- What restock.json needs in its database; `agentflow sources prepare` makes the table of writes done.
CREATE TABLE stock (sku text PRIMARY KEY, quantity int NOT NULL);
INSERT INTO stock VALUES ('apple', 3), ('bread', 40), ('cheese', 0);
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, number text, items jsonb);
