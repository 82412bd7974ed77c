/*
 * What an ordinary SDL game sees of its first pad, as a picture that survives video: the window is cut into a grid of 4 x 2
 * cells. Top row: pad there, button A, button X, button Start. Bottom row: left stick x, left stick y, right stick x,
 * right trigger. Buttons are black or white; axes are grey, from black (-32768) to white (32767).
 */
#include <SDL.h>

static void cell(SDL_Renderer *renderer, int width, int height, int index, int grey)
{
    SDL_Rect place = {index % 4 * width / 4, index / 4 * height / 2, width / 4 + 1, height / 2 + 1};
    SDL_SetRenderDrawColor(renderer, (Uint8)grey, (Uint8)grey, (Uint8)grey, 255);
    SDL_RenderFillRect(renderer, &place);
}

int main(void)
{
    if (SDL_Init(SDL_INIT_VIDEO | SDL_INIT_GAMECONTROLLER) != 0) {
        SDL_Log("init: %s", SDL_GetError());
        return 1;
    }
    SDL_Window *window = SDL_CreateWindow("pads", 0, 0, 1280, 720, SDL_WINDOW_FULLSCREEN_DESKTOP);
    SDL_Renderer *renderer = SDL_CreateRenderer(window, -1, SDL_RENDERER_SOFTWARE);
    SDL_GameController *pad = NULL;
    for (;;) {
        SDL_Event event;
        while (SDL_PollEvent(&event)) {
            if (event.type == SDL_QUIT)
                return 0;
            if (event.type == SDL_CONTROLLERDEVICEADDED && !pad)
                pad = SDL_GameControllerOpen(event.cdevice.which);
            if (event.type == SDL_CONTROLLERDEVICEREMOVED && pad) {
                SDL_GameControllerClose(pad);
                pad = NULL;
            }
            if (event.type == SDL_CONTROLLERBUTTONDOWN && event.cbutton.button == SDL_CONTROLLER_BUTTON_START)
                SDL_GameControllerRumble(pad, 0x4000, 0x8000, 300);
        }
        int width, height;
        SDL_GetRendererOutputSize(renderer, &width, &height);
        const int buttons[] = {SDL_CONTROLLER_BUTTON_A, SDL_CONTROLLER_BUTTON_X, SDL_CONTROLLER_BUTTON_START};
        const int axes[] = {SDL_CONTROLLER_AXIS_LEFTX, SDL_CONTROLLER_AXIS_LEFTY, SDL_CONTROLLER_AXIS_RIGHTX,
                            SDL_CONTROLLER_AXIS_TRIGGERRIGHT};
        cell(renderer, width, height, 0, pad ? 255 : 0);
        for (int i = 0; i < 3; i++)
            cell(renderer, width, height, 1 + i, SDL_GameControllerGetButton(pad, buttons[i]) ? 255 : 0);
        for (int i = 0; i < 4; i++)
            cell(renderer, width, height, 4 + i, pad ? (SDL_GameControllerGetAxis(pad, axes[i]) + 32768) >> 8 : 0);
        SDL_RenderPresent(renderer);
        SDL_Delay(16);
    }
}
