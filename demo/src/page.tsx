import { Anchor } from "lucide-react";
import { useEffect, useState } from "react";

export function Bookings() {
  const [count, setCount] = useState(0);
  useEffect(() => {
    fetch("/bookings").then((response) => response.json()).then(({ count }) => setCount(count));
  }, []);
  return <p><Anchor /> {count} bookings</p>;
}
