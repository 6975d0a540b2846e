import express from "express";
import pg from "pg";
import { price } from "./prices.js";

const database = new pg.Pool({ database: "postgres", user: "harbour" });
const app = express();

app.get("/bookings", async (_, response) => {
  const { rows } = await database.query("SELECT count(*), sum(price) FROM bookings");
  response.json(rows[0]);
});

app.get("/price/:metres/:month", (request, response) => {
  response.json({ price: price(Number(request.params.metres), Number(request.params.month)) });
});

app.listen(3000);
