import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

export default defineConfig({
  plugins: [react()],
  build: {
    // dist/.gitkeep must stay: without it go:embed has nothing to embed. scripts/build removes the rest.
    emptyOutDir: false,
    // Every asset is a file of its own: the content security policy allows no data URLs but images.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    manifest: 'manifest.json',
  },
});
