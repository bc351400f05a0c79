// An invitation's secret comes behind the # of its link: browsers send that to no server, so it is in no log.
(() => {
  const field = document.getElementById("token");
  const secret = decodeURIComponent(location.hash.slice(1));
  if (!field || location.pathname !== "/invitation" || !secret) return;
  field.value = secret;
  history.replaceState(null, "", location.pathname);
})();
