// What Sphinx leaves out for those who read by keyboard or by ear.
document.addEventListener("DOMContentLoaded", () => {
  // These scroll sideways.
  for (const box of document.querySelectorAll("pre, .table-wrapper")) box.tabIndex = 0;
  for (const caption of document.querySelectorAll("p.caption[role=heading]")) caption.ariaLevel = "2";
  for (const part of document.querySelectorAll(".sig dl, .sig dd")) part.role = "presentation";
});
