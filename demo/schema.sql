CREATE TABLE bookings (
  id serial PRIMARY KEY,
  berth int NOT NULL,
  boat text NOT NULL,
  nights int NOT NULL,
  price numeric(8, 2) NOT NULL
);
INSERT INTO bookings (berth, boat, nights, price)
SELECT n % 80 + 1, 'boat ' || n % 613, n % 9 + 1, (n % 9 + 1) * (24 + n % 31)
FROM generate_series(1, 12000) AS n;

CREATE TABLE visits (n int PRIMARY KEY);
