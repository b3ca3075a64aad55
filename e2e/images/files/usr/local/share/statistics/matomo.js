// The part of Matomo's tracker that a page's `_paq` asks for.
(function () {
    var settings = {};
    var calls = window._paq || [];
    calls.forEach(function (call) {
        if (call[0] === 'setTrackerUrl' || call[0] === 'setSiteId') settings[call[0]] = call[1];
    });
    calls.forEach(function (call) {
        if (call[0] !== 'trackPageView') return;
        new Image().src = settings.setTrackerUrl + '?rec=1&idsite=' + encodeURIComponent(settings.setSiteId)
            + '&url=' + encodeURIComponent(location.href) + '&action_name=' + encodeURIComponent(document.title);
    });
})();
