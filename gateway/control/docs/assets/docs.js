// A file of its own, since the page's policy lets no inline script run.
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  // The description goes to no validator on the Internet, and a credential into no storage.
  validatorUrl: null,
  persistAuthorization: false,
});
