/** The log follows its end, unless a person scrolled up. */
const log = document.getElementById("log");
let follows = true;

function follow() { if (follows) log.scrollTop = log.scrollHeight; }

log.addEventListener("scroll", () => { follows = log.scrollTop + log.clientHeight > log.scrollHeight - 20; });
new MutationObserver(follow).observe(log, { childList: true, characterData: true, subtree: true });
follow();
