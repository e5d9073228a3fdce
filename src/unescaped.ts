/** How t() takes over values with any characters: React escapes what it shows, so i18next need not. */
export const UNESCAPED = { escapeValue: false };
