/* What the page does by itself: paste and drop anywhere, keys, enlarging, following the answer.
   It sends nothing of its own; it presses the page's buttons. */
(() => {
  const find = (selector) => document.querySelector(selector);
  const visible = (element) => element && element.offsetParent !== null;

  // Files pasted or dropped anywhere go where chosen files go.
  const offer = (files) => {
    const input = find('#files-input, #files input[type=file]') || find('input[type=file]');
    if (!input || !files.length) return false;
    const bag = new DataTransfer();
    for (const file of files) bag.items.add(file);
    input.files = bag.files;
    input.dispatchEvent(new Event('change', {bubbles: true}));
    return true;
  };
  addEventListener('paste', (event) => {
    const files = [...(event.clipboardData?.files || [])];
    if (files.length && offer(files)) event.preventDefault();
  }, true);
  const carriesFiles = (event) => [...(event.dataTransfer?.types || [])].includes('Files');
  const light = (on) => find('#box')?.classList.toggle('dropping', on);  // where they will come
  addEventListener('dragover', (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    light(true);
  }, true);
  addEventListener('dragleave', (event) => {
    if (!event.relatedTarget) light(false);
  }, true);
  addEventListener('drop', (event) => {
    light(false);
    if (!carriesFiles(event)) return;
    event.preventDefault();
    event.stopPropagation();
    offer([...event.dataTransfer.files]);
  }, true);

  // Keys. An input method's Enter chooses a word and does not send.
  const composing = (event) =>
    event.key === 'Enter' && (event.isComposing || event.keyCode === 229);
  for (const name of ['keydown', 'keypress']) {
    addEventListener(name, (event) => {
      if (composing(event)) event.stopPropagation();
    }, true);
  }
  addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && !find('dialog[open]') && visible(find('#stop'))) {
      find('#stop').click();
    } else if (event.key.toLowerCase() === 'k' && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      find('#fresh')?.click();
      find('#question textarea')?.focus();
    }
  });

  // A picture opens large; Escape or a click closes it.
  const enlarge = (picture) => {
    const shown = picture.querySelector('img');
    const dialog = document.createElement('dialog');
    dialog.className = 'enlarged';
    dialog.setAttribute('aria-label', shown.alt);
    const image = document.createElement('img');
    image.src = picture.dataset.enlarge;
    image.onerror = () => { image.onerror = null; image.src = shown.src; };  // HEIC and the like
    image.alt = shown.alt;
    const close = document.createElement('button');
    close.type = 'button';
    close.textContent = 'Close';
    dialog.append(image, close);
    dialog.addEventListener('click', () => dialog.close());
    dialog.addEventListener('close', () => { dialog.remove(); picture.focus(); });
    document.body.append(dialog);
    dialog.showModal();
  };
  addEventListener('click', (event) => {
    const picture = event.target.closest?.('[data-enlarge]');
    if (picture) enlarge(picture);
  });

  // Follow the answer while the reader is at the end; leave a reader who scrolled up alone until
  // they ask again. The event of our own scroll comes late, when more may stand below already, and
  // says nothing of the reader.
  const end = () => document.documentElement.scrollHeight - innerHeight;
  let following = true;
  let ours = 0;
  addEventListener('scroll', () => {
    if (Math.abs(scrollY - ours) > 1) following = end() - scrollY < 90;
  }, {passive: true});
  const follow = () => {
    if (!following || !find('#reading .message-row')) return;
    scrollTo({top: end()});
    ours = scrollY;
  };
  let asked = 0;
  const followAnew = () => {
    const questions = document.querySelectorAll('#history .user-row').length;
    if (questions > asked) following = true;
    asked = questions;
  };

  // What a screen reader hears: the progress and the end, not each word.
  const name = () => {
    const roles = {'#progress': ['status', 'polite'], '#notice': ['alert', 'assertive'],
                   '#budget': ['status', 'off'], '#model': ['status', 'polite']};
    for (const [selector, [role, live]] of Object.entries(roles)) {
      find(selector)?.setAttribute('role', role);
      find(selector)?.setAttribute('aria-live', live);
    }
    for (const log of document.querySelectorAll('#history [role=log], #live [role=log]')) {
      log.setAttribute('aria-live', 'off');
      log.setAttribute('aria-label', log.closest('#live') ? 'Answer being written' : 'Conversation');
    }
    const names = {'#side > .toggle-button': 'Side bar', '#settings > .toggle-button': 'Settings'};
    for (const [selector, label] of Object.entries(names)) {
      const button = find(selector);
      if (!button) continue;
      button.setAttribute('aria-label', label);
      button.title = label;
    }
  };
  // On a narrow page the side bar starts folded. Gradio opens it some time after it is there, so
  // this looks until a press took; a person's own press ends it.
  let touched = false;
  addEventListener('pointerdown', () => { touched = true; }, {capture: true, once: true});
  const fold = (looks, pressed = false) => {
    const open = find('#side.open');
    if (touched || !looks || (pressed && !open)) return;
    open?.querySelector(':scope > .toggle-button')?.click();
    setTimeout(fold, 50, looks - 1, pressed || Boolean(open));
  };
  const begin = () => {
    const reading = find('#reading');
    if (!reading) { setTimeout(begin, 50); return; }
    name();
    if (innerWidth < 900) fold(100);
    new MutationObserver(() => { name(); followAnew(); follow(); })
      .observe(reading, {childList: true, subtree: true, characterData: true});
    // A picture under the answer has got its height, or the box has grown over the answer's end.
    const sizes = new ResizeObserver(follow);
    for (const part of [reading, find('#box')]) sizes.observe(part);
  };
  addEventListener('DOMContentLoaded', begin);
  if (document.readyState !== 'loading') begin();
})();
