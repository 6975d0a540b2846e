// What a night costs: by the metre, dearer in summer.
export function price(metres, month) {
  const perMetre = month >= 6 && month <= 8 ? 3.5 : 2;
  return metres * perMetre;
}
