// A browser without a locale gives its language as "en-US@posix", on which the chart library ends the page as it loads.
try {
  Intl.getCanonicalLocales(navigator.language)
} catch {
  Object.defineProperty(navigator, 'language', { value: 'en' })
}
