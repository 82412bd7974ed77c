//! A button that raises the system's on-screen keyboard, and what is typed there.

/** Android's keyboards tell no keys, only texts: what arrives in the field goes to the game and the field is emptied. */
export function addKeyboardButton(root: HTMLElement, onText: (text: string) => void): void {
  const field = document.createElement("input");
  field.className = "kite-keyboard-field";
  field.autocapitalize = "off";
  field.autocomplete = "off";
  field.setAttribute("autocorrect", "off");
  field.ariaLabel = "Text for the game";
  field.tabIndex = -1;
  field.addEventListener("input", (event) => {
    if (event instanceof InputEvent && event.isComposing) return;
    onText(field.value);
    field.value = "";
  });
  field.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Enter") onText("\n");
    if (event.key === "Backspace") onText("\b");
  });
  const button = document.createElement("button");
  button.type = "button";
  button.className = "kite-keyboard-button";
  button.ariaLabel = "Keyboard";
  button.textContent = "⌨";
  button.addEventListener("click", () => field.focus());
  root.append(field, button);
}
